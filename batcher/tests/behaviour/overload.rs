//! Limits: requests beyond a limit are rejected with the reason and the time after which to try again.

use sluice_batcher::with_settings;

use crate::client::{infer_grpc, infer_json, post};
use crate::model::{Behaviour, Model};
use crate::start::{hold_with, settings, sidecar, until};

#[tokio::test]
async fn a_full_queue_is_429_with_a_retry_after_and_the_rest_is_served() {
    let name = "full";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, with_settings!(settings(name), limits.queue_requests = 2)).await;
    let front = batcher.front;
    model.close_gate();
    let mut waiting = vec![tokio::spawn(infer_json(front, name, &[1]))];
    until("the first is at the model", async || model.at_gate() == 1).await;
    let label = format!("model=\"{name}\"");
    let refused = loop {
        let before = batcher.metric("sluice_batcher_queue_rows", &label).await;
        let request = tokio::spawn(infer_json(front, name, &[2]));
        until("it waits or is refused", async || {
            request.is_finished() || batcher.metric("sluice_batcher_queue_rows", &label).await > before
        })
        .await;
        if request.is_finished() {
            break request.await.unwrap();
        }
        waiting.push(request);
        assert!(waiting.len() < 20, "a queue of 2 (and two batches of 8) holds more than that");
    };
    assert_eq!(refused.status, 429);
    assert!(refused.text().contains("queueRequests"), "{}", refused.text());
    assert!(refused.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    assert!(refused.headers["retry-after-ms"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    let refused = infer_grpc(front, name, &[3]).await;
    assert_eq!(refused.grpc_status(), 8);
    assert!(refused.headers.contains_key("retry-after-ms"));
    let rejected =
        batcher.metric("sluice_batcher_rejected_total", &format!("{label},reason=\"queue_full\"")).await;
    assert_eq!(rejected, 2.0);
    model.open_gate();
    for request in waiting {
        assert_eq!(request.await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_in_each_form() {
    let name = "large";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, with_settings!(settings(name), limits.max_body_bytes = 2000)).await;
    let ids: Vec<i64> = (1..2000).collect();
    let got = infer_json(batcher.front, name, &ids).await;
    assert_eq!(got.status, 413);
    assert!(got.text().contains("2000 bytes"), "{}", got.text());
    assert_eq!(infer_grpc(batcher.front, name, &ids).await.grpc_status(), 8);
    assert_eq!(post(batcher.front, "/elsewhere", vec![0; 3000]).await.status, 413);
    assert!(model.client_calls().is_empty());
}

#[tokio::test]
async fn what_cannot_be_answered_in_time_is_refused_on_arrival() {
    let name = "late";
    let behaviour = Behaviour { alpha_us: 200_000.into(), ..Behaviour::default() };
    let model = Model::start(name, behaviour).await;
    let batcher = sidecar(&model, with_settings!(settings(name), batching.max_batch_rows = 1)).await;
    // A free slot would take it all the same; this one is busy.
    let first = hold_with(&model, batcher.front, name, 1).await;
    let body = r#"{"parameters":{"timeout":20000},"inputs":[{"name":"id","datatype":"INT64","shape":[1,1],"data":[1]}]}"#;
    let got = post(batcher.front, &format!("/v2/models/{name}/infer"), body).await;
    assert_eq!(got.status, 429, "a batch takes 200 ms, the request has 20: {}", got.text());
    assert!(got.headers.contains_key("retry-after"));
    model.open_gate();
    assert_eq!(first.await.unwrap().status, 200);
    assert_eq!(model.client_calls().len(), 1);
}

#[tokio::test]
async fn a_client_that_has_gone_costs_the_model_nothing() {
    let name = "gone";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let front = batcher.front;
    let first = hold_with(&model, front, name, 1).await;
    let label = format!("model=\"{name}\"");
    let stays = tokio::spawn(infer_json(front, name, &[2]));
    until("it waits", async || batcher.metric("sluice_batcher_queue_rows", &label).await == 1.0).await;
    let body = crate::client::json_body(&[3]);
    let leaver = {
        use tokio::io::AsyncWriteExt;
        let mut stream = tokio::net::TcpStream::connect(front).await.unwrap();
        let head = format!(
            "POST /v2/models/{name}/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();
        stream
    };
    until("both wait", async || batcher.metric("sluice_batcher_queue_rows", &label).await == 2.0).await;
    drop(leaver);
    until("the batcher has noticed", async || {
        let drained = post(batcher.admin, "/drain?deadline_ms=0", "").await.text();
        drained.contains("\"active\":2")
    })
    .await;
    let cancelled = format!("{label},form=\"json\",outcome=\"cancelled\"");
    assert_eq!(batcher.metric("sluice_batcher_requests_total", &cancelled).await, 1.0);
    model.open_gate();
    first.await.unwrap();
    stays.await.unwrap();
    let rows: Vec<i64> = model.client_calls().into_iter().flat_map(|call| call.ids).collect();
    assert_eq!(rows, [1, 2]);
}
