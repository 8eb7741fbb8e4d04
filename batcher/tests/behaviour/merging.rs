//! Requests of concurrent clients become one call, and each gets its own rows back.

use crate::client::{grpc_output, infer_binary, infer_grpc, infer_json, post};
use crate::model::{Behaviour, Model};
use crate::start::{hold_with, settings, sidecar, until};

#[tokio::test]
async fn rest_and_grpc_requests_reach_the_model_as_one_call() {
    let name = "one-call";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let front = batcher.front;
    // The first one takes the slot; what comes while it runs shares the next call.
    let first = hold_with(&model, front, name, 1).await;
    let json = tokio::spawn(infer_json(front, name, &[2]));
    let rows = tokio::spawn(infer_json(front, name, &[3, 4]));
    let binary = tokio::spawn(infer_binary(front, name, &[5]));
    let grpc = tokio::spawn(infer_grpc(front, name, &[6, 7]));
    let label = format!("model=\"{name}\"");
    until("all wait", async || batcher.metric("sluice_batcher_queue_rows", &label).await == 6.0).await;
    model.open_gate();
    assert_eq!(first.await.unwrap().output("twice"), [2]);
    let json = json.await.unwrap();
    assert_eq!(json.output("twice"), [4]);
    assert!(json.text().contains("\"r2\""), "the id is echoed: {}", json.text());
    assert_eq!(rows.await.unwrap().output("twice"), [6, 8]);
    assert_eq!(binary.await.unwrap().status, 200);
    assert_eq!(grpc_output(&grpc.await.unwrap(), "twice"), [12, 14]);
    let calls = model.client_calls();
    assert_eq!(calls.len(), 2, "{calls:?}");
    let mut ids = calls[1].ids.clone();
    ids.sort_unstable();
    assert_eq!(ids, [2, 3, 4, 5, 6, 7]);
    assert_eq!(calls[1].form, "binary", "a mixed batch goes in the server's best form");
}

#[tokio::test]
async fn a_server_without_the_binary_extension_is_spoken_to_in_json() {
    let name = "json-only";
    let model = Model::start(name, Behaviour { extensions: vec![], ..Behaviour::default() }).await;
    let batcher = sidecar(&model, settings(name)).await;
    let binary = infer_binary(batcher.front, name, &[5]).await;
    assert_eq!(binary.status, 200, "{}", binary.text());
    assert_eq!(grpc_output(&infer_grpc(batcher.front, name, &[9]).await, "twice"), [18]);
    assert!(model.calls().iter().all(|call| call.form == "json"));
}

#[tokio::test]
async fn a_poisoned_row_fails_alone_with_the_servers_own_error() {
    let name = "poison";
    let model = Model::start(name, Behaviour { poison: Some(666), ..Behaviour::default() }).await;
    let batcher = sidecar(&model, settings(name)).await;
    let front = batcher.front;
    let first = hold_with(&model, front, name, 1).await;
    let good: Vec<_> =
        [2, 3, 4, 5].map(|id| tokio::spawn(async move { infer_json(front, name, &[id]).await })).into();
    let bad = tokio::spawn(infer_json(front, name, &[666]));
    let bad_grpc = tokio::spawn(infer_grpc(front, name, &[7, 666]));
    let label = format!("model=\"{name}\"");
    until("all wait", async || batcher.metric("sluice_batcher_queue_rows", &label).await == 7.0).await;
    model.open_gate();
    first.await.unwrap();
    for (id, good) in (2..).zip(good) {
        assert_eq!(good.await.unwrap().output("twice"), [id * 2]);
    }
    let bad = bad.await.unwrap();
    assert_eq!((bad.status, bad.text().as_str()), (400, "{\"error\":\"poisoned, says the model server\"}"));
    let bad = bad_grpc.await.unwrap();
    assert_eq!(bad.grpc_status(), 3);
    assert_eq!(bad.headers["grpc-message"], "poisoned, says the model server");
}

#[tokio::test]
async fn answers_that_cannot_be_shared_out_by_rows_are_asked_for_again_one_by_one() {
    let name = "one-row";
    let model = Model::start(name, Behaviour { one_row_only: true, ..Behaviour::default() }).await;
    let batcher = sidecar(&model, settings(name)).await;
    let front = batcher.front;
    let first = hold_with(&model, front, name, 1).await;
    let others: Vec<_> =
        [2, 3, 4].map(|id| tokio::spawn(async move { infer_json(front, name, &[id]).await })).into();
    let label = format!("model=\"{name}\"");
    until("all wait", async || batcher.metric("sluice_batcher_queue_rows", &label).await == 3.0).await;
    model.open_gate();
    assert_eq!(first.await.unwrap().output("twice"), [2]);
    for (id, other) in (2..).zip(others) {
        assert_eq!(other.await.unwrap().output("twice"), [id * 2]);
    }
}

#[tokio::test]
async fn only_allowed_sizes_are_sent() {
    let name = "allowed";
    let model = Model::start(name, Behaviour::default()).await;
    let allowed = sluice_batcher::with_settings!(settings(name), batching.allowed_batch_rows = vec![4]);
    let batcher = sidecar(&model, allowed).await;
    let front = batcher.front;
    let first = hold_with(&model, front, name, 1).await;
    let others: Vec<_> =
        (2..8).map(|id| tokio::spawn(async move { infer_json(front, name, &[id]).await })).collect();
    let label = format!("model=\"{name}\"");
    until("all wait", async || batcher.metric("sluice_batcher_queue_rows", &label).await == 6.0).await;
    model.open_gate();
    first.await.unwrap();
    for other in others {
        assert_eq!(other.await.unwrap().status, 200);
    }
    let sizes: Vec<usize> = model.calls().iter().map(|call| call.ids.len()).collect();
    assert!(sizes.iter().all(|size| [1, 4].contains(size)), "{sizes:?}");
    assert_eq!(model.client_calls()[1].ids.len(), 4);
}

#[tokio::test]
async fn a_body_that_is_no_request_goes_to_the_model_server_alone() {
    let name = "bad-json";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let got = post(batcher.front, &format!("/v2/models/{name}/infer"), "{\"inputs\": [").await;
    assert_eq!(
        (got.status, got.text().as_str()),
        (400, "{\"error\":\"not a request, says the model server\"}")
    );
}

#[tokio::test]
async fn an_unknown_model_is_the_servers_own_404() {
    let name = "known";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let got = infer_json(batcher.front, "other", &[1]).await;
    assert_eq!(got.status, 404);
    assert_eq!(got.text(), "{\"error\":\"nothing at /v2/models/other/infer, says the model server\"}");
}

#[tokio::test]
async fn a_server_with_two_slots_gets_two_batches_at_a_time() {
    let name = "two-slots";
    let model = Model::start(name, Behaviour::default()).await;
    let two = sluice_batcher::with_settings!(settings(name), batching.slots_per_upstream = 2);
    let batcher = sidecar(&model, two).await;
    let front = batcher.front;
    let first = hold_with(&model, front, name, 1).await;
    let second = tokio::spawn(infer_json(front, name, &[2]));
    until("the second one too", async || model.at_gate() == 2).await;
    let third = tokio::spawn(infer_json(front, name, &[3]));
    let label = format!("model=\"{name}\"");
    until("the third waits", async || batcher.metric("sluice_batcher_queue_rows", &label).await == 1.0).await;
    assert_eq!(batcher.metric("sluice_batcher_inflight_batches", &label).await, 2.0);
    model.open_gate();
    for (id, request) in (1..).zip([first, second, third]) {
        assert_eq!(request.await.unwrap().output("twice"), [id * 2]);
    }
}
