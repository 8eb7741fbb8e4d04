//! Settings that change while the batcher runs.

use sluice_batcher::settings::{Settings, WhileCold, take_over};
use sluice_batcher::with_settings;

use crate::client::infer_json;
use crate::model::{Behaviour, Model};
use crate::start::{Batcher, settings, sidecar, start, until};

fn change(batcher: &Batcher, change: impl FnOnce(&mut Settings)) {
    let mut wanted = Settings::clone(&batcher.settings.now());
    change(&mut wanted);
    take_over(&batcher.settings, wanted).unwrap();
}

#[tokio::test]
async fn larger_batches_are_warmed_before_they_are_sent_and_requests_wait_for_that() {
    let name = "grown";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, with_settings!(settings(name), batching.max_batch_rows = 2)).await;
    assert_eq!(infer_json(batcher.front, name, &[1]).await.output("twice"), [2]);
    change(&batcher, |settings| settings.batching.max_batch_rows = 4);
    until("a second epoch is open", async || {
        let upstreams = batcher.upstreams().await;
        upstreams["upstreams"][0]["epoch"] == 2 && upstreams["upstreams"][0]["state"] == "ready"
    })
    .await;
    assert!(model.calls().iter().any(|call| call.is_warmup() && call.ids.len() == 4));
    model.close_gate();
    let first = tokio::spawn(infer_own(batcher.front, name, 10));
    until("one is at the model", async || model.at_gate() == 1).await;
    let requests: Vec<_> = (1..=8).map(|id| tokio::spawn(infer_own(batcher.front, name, id))).collect();
    until("eight wait", async || {
        batcher.metric("sluice_batcher_queue_rows", &format!("model=\"{name}\"")).await >= 8.0
    })
    .await;
    model.open_gate();
    assert_eq!(first.await.unwrap(), [20]);
    for (id, request) in (1..=8).zip(requests) {
        assert_eq!(request.await.unwrap(), [2 * id]);
    }
    assert_eq!(model.client_calls().iter().map(|call| call.ids.len()).max(), Some(4));
}

async fn infer_own(front: std::net::SocketAddr, name: &'static str, id: i64) -> Vec<i64> {
    infer_json(front, name, &[id]).await.output("twice")
}

#[tokio::test]
async fn a_changed_objective_counts_from_the_next_request_on_and_warms_nothing() {
    let name = "hurried";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let calls = model.calls().len();
    change(&batcher, |settings| settings.batching.objective_ms = 70_000);
    until("the objective is exported", async || {
        batcher.metric("sluice_batcher_objective_seconds", &format!("model=\"{name}\"")).await == 70.0
    })
    .await;
    assert_eq!(infer_json(batcher.front, name, &[3]).await.output("twice"), [6]);
    assert_eq!(model.calls().len(), calls + 1);
}

#[tokio::test]
async fn where_nothing_is_to_be_held_a_cold_model_is_503_at_once() {
    let name = "unheld";
    let mut model = Model::reserve(name, Behaviour::default()).await;
    let reject = with_settings!(
        settings(name),
        servers.upstream = Some(model.address.to_string()),
        holding.while_cold = WhileCold::Reject
    );
    let batcher = start(reject).await;
    let got = infer_json(batcher.front, name, &[1]).await;
    assert_eq!(got.status, 503);
    assert_eq!(got.headers["retry-after"], "1");
    let cold = format!("model=\"{name}\",reason=\"cold\"");
    assert_eq!(batcher.metric("sluice_batcher_rejected_total", &cold).await, 1.0);
    let chat = crate::client::post(batcher.front, "/v1/chat/completions", "{}").await;
    assert_eq!(chat.status, 503);
    model.restart().await;
    batcher.until_ready().await;
    assert_eq!(infer_json(batcher.front, name, &[1]).await.output("twice"), [2]);
}

#[tokio::test]
async fn a_model_that_clients_name_is_warmed_while_the_others_are_served() {
    let name = "resident";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, with_settings!(settings(name), batching.max_batch_rows = 1)).await;
    // Unknown to the model server: its own 404 comes back, and the resident model never stops.
    assert_eq!(infer_json(batcher.front, "stranger", &[1]).await.status, 404);
    assert_eq!(infer_json(batcher.front, name, &[4]).await.output("twice"), [8]);
    assert_eq!(batcher.upstreams().await["upstreams"][0]["epoch"], 1);
}
