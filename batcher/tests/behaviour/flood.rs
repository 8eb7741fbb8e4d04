//! Hundreds of large bodies: the memory that they may hold together is limited.

use sluice_batcher::with_settings;

use crate::client::{get, infer_grpc, infer_json, json_body};
use crate::model::{Behaviour, Model};
use crate::raw::{Raw, status};
use crate::start::{Batcher, settings, sidecar, until};

async fn gauge(batcher: &Batcher, name: &str) -> f64 {
    let text = get(batcher.admin, "/metrics").await.text();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("{name} is there"))
}

/// Resident memory of this process, where the batcher runs too.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<usize>().unwrap() << 10
}

#[tokio::test]
async fn bodies_that_arrive_hold_no_more_than_they_may_together() {
    let name = "flood";
    let model = Model::start(name, Behaviour::default()).await;
    const BUDGET: usize = 8 << 20;
    let batcher = sidecar(&model, with_settings!(settings(name), limits.queue_bytes = BUDGET)).await;
    let before = resident_bytes();
    // Each sends 900 KiB of 1 MiB and stays: 60 of them would hold 54 MiB.
    let head =
        format!("POST /v2/models/{name}/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", 1 << 20);
    let part = vec![b' '; 900 << 10];
    let clients: Vec<_> = (0..60)
        .map(|_| {
            let (head, part, front) = (head.clone(), part.clone(), batcher.front);
            tokio::spawn(async move {
                let mut client = Raw::connect(front).await;
                client.write(head).await;
                client.write(part).await;
                client
            })
        })
        .collect();
    let mut staying = Vec::new();
    for client in clients {
        staying.push(client.await.unwrap());
    }
    let label = format!("model=\"{name}\",reason=\"bytes_full\"");
    until("most of them are refused", async || {
        batcher.metric("sluice_batcher_rejected_total", &label).await >= 50.0
    })
    .await;
    // Those that were not refused go on arriving.
    until("the budget is in use", async || {
        let held = gauge(&batcher, "sluice_batcher_request_bytes").await;
        assert!(held <= BUDGET as f64, "{held}");
        held > 4e6
    })
    .await;
    // Tests beside this one have their share of the process: the bound is loose, and far below 54 MiB more.
    let grown = resident_bytes().saturating_sub(before);
    println!("resident memory grew by {} KiB, the budget is {} KiB", grown >> 10, BUDGET >> 10);
    drop(staying);
    until("all is given back", async || gauge(&batcher, "sluice_batcher_request_bytes").await == 0.0).await;
    assert_eq!(infer_json(batcher.front, name, &[7]).await.output("twice"), [14]);
    assert_eq!(model.client_calls().len(), 1);
}

#[tokio::test]
async fn a_request_for_which_there_is_no_memory_is_429_with_the_time_to_come_back() {
    let name = "no-memory";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, with_settings!(settings(name), limits.queue_bytes = 2000)).await;
    let ids: Vec<i64> = (1..1000).collect();
    let body = json_body(&ids);
    let got = crate::client::post(batcher.front, &format!("/v2/models/{name}/infer"), body).await;
    assert_eq!(got.status, 429);
    assert!(got.text().contains("queueBytes") && got.headers.contains_key("retry-after"), "{got:?}");
    let got = infer_grpc(batcher.front, name, &ids).await;
    assert_eq!(got.grpc_status(), 8);
    let (code, delay) = retry_info(&got.headers["grpc-status-details-bin"]);
    assert_eq!(code, 8);
    let told_ms: u64 = got.headers["retry-after-ms"].to_str().unwrap().parse().unwrap();
    assert_eq!(delay, std::time::Duration::from_millis(told_ms));
    assert_eq!(infer_json(batcher.front, name, &[7]).await.output("twice"), [14]);
}

/// The code and the delay, read as a client would, with the descriptors of prost's own types.
fn retry_info(header: &http::HeaderValue) -> (i32, std::time::Duration) {
    use base64::Engine;
    use prost::Message;
    #[derive(Clone, PartialEq, Message)]
    struct RpcStatus {
        #[prost(int32, tag = "1")]
        code: i32,
        #[prost(string, tag = "2")]
        message: String,
        #[prost(message, repeated, tag = "3")]
        details: Vec<prost_types::Any>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct Info {
        #[prost(message, optional, tag = "1")]
        retry_delay: Option<prost_types::Duration>,
    }
    let bytes = base64::engine::general_purpose::STANDARD_NO_PAD.decode(header.as_bytes()).unwrap();
    let status = RpcStatus::decode(&bytes[..]).unwrap();
    assert!(status.message.contains("queueBytes"), "{status:?}");
    let [detail] = &status.details[..] else { panic!("one detail: {status:?}") };
    assert_eq!(detail.type_url, "type.googleapis.com/google.rpc.RetryInfo");
    let delay = Info::decode(&detail.value[..]).unwrap().retry_delay.unwrap();
    (status.code, delay.try_into().unwrap())
}

#[tokio::test]
async fn declared_lengths_cost_nothing() {
    let name = "declared";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let head =
        format!("POST /v2/models/{name}/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", 60 << 20);
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = Raw::connect(batcher.front).await;
        client.write(&head).await;
        client.write("{").await;
        clients.push(client);
    }
    until("all of them are there", async || gauge(&batcher, "sluice_batcher_request_bytes").await == 20.0)
        .await;
    drop(clients);
    let beyond =
        format!("POST /v2/models/{name}/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", u64::MAX);
    let mut client = Raw::connect(batcher.front).await;
    client.write(beyond).await;
    let answer = client.read_until("\r\n\r\n").await;
    assert_eq!(status(&answer), 400, "{answer}");
}
