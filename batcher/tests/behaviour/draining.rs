//! Stopping: everything that was accepted is answered.

use std::time::Duration;

use serde_json::Value;
use sluice_batcher::with_settings;

use crate::client::{get, infer_grpc, infer_json, post};
use crate::model::{Behaviour, Model};
use crate::start::{hold_with, settings, sidecar, start, until};

#[tokio::test]
async fn a_stop_answers_what_waits_and_what_runs() {
    let name = "stopping";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let front = batcher.front;
    model.close_gate();
    let requests: Vec<_> =
        (1..=20).map(|id| tokio::spawn(async move { infer_json(front, name, &[id]).await })).collect();
    let label = format!("model=\"{name}\"");
    until("some run, the others wait", async || {
        let waiting = batcher.metric("sluice_batcher_queue_rows", &label).await;
        let running: usize = model.client_calls().iter().map(|call| call.ids.len()).sum();
        waiting + running as f64 == 20.0
    })
    .await;
    batcher.stop.cancel();
    until("it is not ready at once", async || get(batcher.admin, "/readyz").await.status == 503).await;
    model.open_gate();
    for (id, request) in (1..).zip(requests) {
        assert_eq!(request.await.unwrap().output("twice"), [id * 2]);
    }
    tokio::time::timeout(Duration::from_secs(30), batcher.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stop_ends_at_its_deadline_even_if_the_model_hangs() {
    let name = "hanging";
    let model = Model::start(name, Behaviour::default()).await;
    let settings = with_settings!(settings(name), drain.drain_deadline_ms = 100);
    let batcher = sidecar(&model, settings).await;
    let _request = hold_with(&model, batcher.front, name, 1).await;
    batcher.stop.cancel();
    tokio::time::timeout(Duration::from_secs(30), batcher.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stop_tells_held_requests_that_nobody_came() {
    let name = "abandoned";
    let nobody = Model::reserve(name, Behaviour::default()).await;
    let upstream = Some(nobody.address.to_string());
    let settings = with_settings!(settings(name), servers.upstream = upstream, drain.drain_deadline_ms = 100);
    let batcher = start(settings).await;
    let front = batcher.front;
    let held = tokio::spawn(async move { infer_json(front, name, &[1]).await });
    let label = format!("model=\"{name}\"");
    until("it is held", async || batcher.metric("sluice_batcher_queue_rows", &label).await == 1.0).await;
    batcher.stop.cancel();
    let got = held.await.unwrap();
    assert_eq!(got.status, 503, "{}", got.text());
    tokio::time::timeout(Duration::from_secs(30), batcher.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn drain_blocks_until_all_is_answered_and_keeps_accepting_meanwhile() {
    let name = "draining";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let (front, admin) = (batcher.front, batcher.admin);
    let first = hold_with(&model, front, name, 1).await;
    let drain = tokio::spawn(post(admin, "/drain?deadline_ms=60000", ""));
    until("it is not ready", async || get(front, "/v2/health/ready").await.status == 503).await;
    let late = tokio::spawn(infer_json(front, name, &[2]));
    let label = format!("model=\"{name}\"");
    until("the late one is accepted", async || {
        batcher.metric("sluice_batcher_queue_rows", &label).await == 1.0
    })
    .await;
    assert!(!drain.is_finished());
    model.open_gate();
    assert_eq!(first.await.unwrap().status, 200);
    assert_eq!(late.await.unwrap().status, 200);
    let drained: Value = serde_json::from_str(&drain.await.unwrap().text()).unwrap();
    assert_eq!(drained["drained"], true, "{drained}");
    assert_eq!(get(front, "/v2/health/ready").await.status, 503, "it stays drained");
}

#[tokio::test]
async fn a_new_epoch_revokes_a_drain() {
    let name = "revoked";
    let mut model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let (front, admin) = (batcher.front, batcher.admin);
    assert_eq!(post(admin, "/drain", "").await.status, 200);
    assert_eq!(get(front, "/v2/health/ready").await.status, 503);
    // The model container alone was restarted, which runs the same hook.
    model.restart().await;
    batcher.until_ready().await;
    assert_eq!(infer_json(front, name, &[1]).await.output("twice"), [2]);
}

#[tokio::test]
async fn a_drain_needs_the_token_and_serves_those_who_have_not_heard_of_it() {
    let name = "token";
    let model = Model::start(name, Behaviour::default()).await;
    let settings = with_settings!(
        settings(name),
        drain.drain_token = Some("secret".to_owned()),
        drain.propagation_ms = 300,
        drain.drain_deadline_ms = 60_000
    );
    let batcher = sidecar(&model, settings).await;
    let (front, admin) = (batcher.front, batcher.admin);
    for path in ["/drain", "/drain?token=guess", "/drain?token="] {
        assert_eq!(get(admin, path).await.status, 403, "{path}");
    }
    assert_eq!(get(front, "/v2/health/ready").await.status, 200);
    assert!(!infer_json(front, name, &[1]).await.headers.contains_key("connection"));
    let drain = tokio::spawn(get(admin, "/drain?token=secret"));
    until("it is not ready", async || get(front, "/v2/health/ready").await.status == 503).await;
    let late = infer_json(front, name, &[2]).await;
    assert_eq!(late.output("twice"), [4]);
    assert_eq!(late.headers["connection"], "close", "the client is to look for another one");
    assert!(!drain.is_finished(), "it waits for silence");
    assert_eq!(infer_grpc(front, name, &[3]).await.grpc_status(), 0);
    let drained: Value = serde_json::from_str(&drain.await.unwrap().text()).unwrap();
    assert_eq!(drained["drained"], true, "{drained}");
}

#[tokio::test]
async fn the_kubelet_asks_the_model_server_through_the_sidecar() {
    let name = "asked";
    let mut model = Model::reserve(name, Behaviour::default()).await;
    let upstream = Some(model.address.to_string());
    let batcher = start(with_settings!(settings(name), servers.upstream = upstream)).await;
    let asked = async |path: &str| get(batcher.admin, path).await.status;
    assert_eq!(asked("/livez").await, 200);
    assert_eq!(asked("/readyz").await, 503);
    assert_eq!(asked("/upstream-livez").await, 200, "it may still be starting");
    assert_eq!(asked("/upstream-startedz?path=/v2/health/ready").await, 503);
    model.restart().await;
    batcher.until_ready().await;
    assert_eq!(asked("/upstream-startedz?path=/v2/health/ready").await, 200);
    assert_eq!(asked("/upstream-startedz").await, 200);
    assert_eq!(asked("/upstream-livez?path=/nothing-there").await, 503);
    assert_eq!(asked("/upstream-livez?paht=/v2").await, 400);
}

#[tokio::test]
async fn the_model_servers_own_hook_is_called_when_all_is_answered() {
    let name = "hooked";
    let model = Model::start(name, Behaviour::default()).await;
    let hooks = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = with_settings!(
        settings(name),
        drain.drain_deadline_ms = 60_000,
        drain.drain_delay_ms = 300,
        drain.after_drain = Some(format!("http://{}/stop?now=1", hooks.local_addr().unwrap())),
        drain.after_drain_headers = vec!["x-token: abc".to_owned()]
    );
    let batcher = sidecar(&model, settings).await;
    let (front, admin) = (batcher.front, batcher.admin);
    let request = hold_with(&model, front, name, 1).await;
    let drain = tokio::spawn(get(admin, "/drain"));
    assert_eq!(get(front, "/v2/health/ready").await.status, 200, "the delay comes first");
    until("it is not ready", async || get(front, "/v2/health/ready").await.status == 503).await;
    assert!(futures::FutureExt::now_or_never(hooks.accept()).is_none(), "a request is not answered yet");
    model.open_gate();
    assert_eq!(request.await.unwrap().output("twice"), [2]);
    let (mut stream, _) =
        tokio::time::timeout(Duration::from_secs(30), hooks.accept()).await.unwrap().unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tokio::io::AsyncReadExt::read_u8(&mut stream).await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("GET /stop?now=1 HTTP/1.1\r\n") && head.contains("x-token: abc"), "{head}");
    assert!(!drain.is_finished(), "it waits for the hook's answer");
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
    let drained: Value = serde_json::from_str(&drain.await.unwrap().text()).unwrap();
    assert_eq!(drained["drained"], true, "{drained}");
}
