//! The warm barrier: no client's row reaches a model server that is not warm.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use prost::Message;
use sluice_batcher::with_settings;
use sluice_protocol::grpc::{
    self, ModelReadyRequest, ModelReadyResponse, ServerReadyRequest, ServerReadyResponse,
};

use crate::client::{get, infer_grpc, infer_json, post};
use crate::model::{Behaviour, Call, Model};
use crate::start::{settings, sidecar, start, until};

/// Each run of the server has run every size with warm-up rows before it saw a client's row.
fn assert_warm_before_clients(calls: &[Call], sizes: &[usize]) {
    let epochs: BTreeSet<usize> = calls.iter().map(|call| call.epoch).collect();
    for epoch in epochs {
        let calls: Vec<&Call> = calls.iter().filter(|call| call.epoch == epoch).collect();
        let Some(first) = calls.iter().position(|call| !call.is_warmup()) else { continue };
        let warmed: BTreeSet<usize> = calls[..first].iter().map(|call| call.ids.len()).collect();
        for size in sizes {
            assert!(warmed.contains(size), "epoch {epoch}: a client's row came before size {size} was warm");
        }
        for call in &calls {
            let mixed = call.ids.contains(&0) && !call.is_warmup();
            assert!(!mixed, "warm-up rows share no batch with clients' rows");
        }
    }
}

#[tokio::test]
async fn every_size_is_warmed_before_the_first_client_and_readiness_waits_for_it() {
    let name = "cold";
    let mut model = Model::reserve(name, Behaviour::default()).await;
    let upstream = Some(model.address.to_string());
    let batcher =
        start(with_settings!(settings(name), servers.upstream = upstream, batching.max_batch_rows = 4)).await;
    let cold = get(batcher.front, "/v2/health/ready").await;
    assert_eq!((cold.status, cold.text().as_str()), (503, "{\"ready\":false}"));
    assert_eq!(get(batcher.front, "/v2/health/live").await.text(), "{\"live\":true}");
    assert_eq!(get(batcher.front, &format!("/v2/models/{name}/ready")).await.status, 503);
    assert_eq!(get(batcher.admin, "/readyz").await.status, 503);
    assert_eq!(get(batcher.admin, "/livez").await.status, 200);
    // A request that comes now is held until the server is warm.
    let early = tokio::spawn(infer_json(batcher.front, name, &[7]));
    model.restart().await;
    assert_eq!(early.await.unwrap().output("twice"), [14]);
    batcher.until_ready().await;
    assert_eq!(get(batcher.front, "/v2/health/ready").await.text(), "{\"ready\":true}");
    assert_eq!(get(batcher.front, &format!("/v2/models/{name}/ready")).await.status, 200);
    until("/readyz follows", async || get(batcher.admin, "/readyz").await.status == 200).await;
    let got = crate::client::grpc(batcher.front, grpc::path::SERVER_READY, &ServerReadyRequest {}).await;
    let message = grpc::decode_unary(got.body, 100).unwrap();
    assert!(ServerReadyResponse::decode(message).unwrap().ready);
    let asked = ModelReadyRequest { name: name.into(), ..Default::default() };
    let got = crate::client::grpc(batcher.front, grpc::path::MODEL_READY, &asked).await;
    let message = grpc::decode_unary(got.body, 100).unwrap();
    assert!(ModelReadyResponse::decode(message).unwrap().ready);
    assert_warm_before_clients(&model.calls(), &[1, 2, 3, 4]);
    assert_eq!(model.calls()[0].ids.len(), 4, "the largest first");
}

#[tokio::test]
async fn a_model_that_was_not_named_is_warmed_at_its_first_request() {
    let name = "surprise";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, with_settings!(settings(name), models.models = vec![])).await;
    assert!(model.calls().is_empty());
    assert_eq!(infer_json(batcher.front, name, &[3]).await.output("twice"), [6]);
    assert_warm_before_clients(&model.calls(), &[1, 2, 3, 4, 5, 6, 7, 8]);
}

#[tokio::test]
async fn a_model_that_a_client_names_during_warm_up_is_warmed_when_the_barrier_is_open() {
    let name = "meanwhile";
    let model = Model::start(name, Behaviour::default()).await;
    model.behaviour().alpha_us.store(500_000, Ordering::SeqCst);
    let upstream = Some(model.upstream());
    let batcher = start(with_settings!(
        settings(name),
        servers.upstream = upstream,
        batching.max_batch_rows = 1,
        holding.hold_ms = 15_000
    ))
    .await;
    until("the model server is being warmed", async || !model.calls().is_empty()).await;
    let named = tokio::spawn(infer_json(batcher.front, "meanwhile-too", &[3]));
    let waits = async || batcher.unconfirmed_waiting().await == 1.0;
    until("it waits to hear whether there is such a model", waits).await;
    model.behaviour().alpha_us.store(0, Ordering::SeqCst);
    let got = named.await.unwrap();
    assert_eq!(got.status, 200, "{}", got.text());
    assert_eq!(got.output("twice"), [6]);
}

#[tokio::test]
async fn a_model_that_a_client_named_and_that_cannot_be_warmed_costs_the_others_nothing() {
    let name = "steady";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher =
        sidecar(&model, with_settings!(settings(name), holding.hold_ms = 300, batching.objective_ms = 1000))
            .await;
    let other = infer_json(batcher.front, "steady-broken", &[1]).await;
    assert_eq!(other.status, 503, "{}", other.text());
    assert_eq!(infer_json(batcher.front, name, &[3]).await.output("twice"), [6]);
    let upstreams = get(batcher.admin, "/upstreams").await.text();
    assert!(upstreams.contains("\"state\":\"ready\"") && upstreams.contains("\"epoch\":1"), "{upstreams}");
}

#[tokio::test]
async fn a_model_name_of_any_length_costs_the_others_nothing() {
    let name = "concise";
    let long = "n".repeat(100 << 10);
    let grpc_too = Behaviour { grpc_only: true, ..Behaviour::default() };
    for behaviour in [Behaviour::default(), grpc_too] {
        let model = Model::start(name, behaviour).await;
        let batcher = sidecar(&model, settings(name)).await;
        let got = infer_grpc(batcher.front, &long, &[1]).await;
        assert_eq!(got.grpc_status(), 3, "{got:?}");
        let message = got.headers["grpc-message"].to_str().unwrap();
        assert!(message.contains("102400 bytes; at most 256"), "{message}");
        // As long as a path may be.
        let long = &long[..10_000];
        let asked = ModelReadyRequest { name: long.into(), ..Default::default() };
        let got = crate::client::grpc(batcher.front, grpc::path::MODEL_READY, &asked).await;
        assert_eq!(got.grpc_status(), 3, "{got:?}");
        let infer = infer_json(batcher.front, long, &[1]).await;
        let predict = post(batcher.front, &format!("/v1/models/{long}:predict"), "{\"instances\":[1]}").await;
        let ready = get(batcher.front, &format!("/v2/models/{long}/ready")).await;
        for got in [infer, predict, ready] {
            assert_eq!(got.status, 400, "{}", got.text());
            assert!(got.text().contains("at most 256"), "{}", got.text());
        }
        assert_eq!(infer_json(batcher.front, name, &[3]).await.output("twice"), [6]);
        let upstream = &batcher.upstreams().await["upstreams"][0];
        assert_eq!((&upstream["state"], &upstream["epoch"]), (&"ready".into(), &1.into()));
    }
}

#[tokio::test]
async fn a_model_that_a_client_named_and_whose_warm_up_breaks_off_costs_the_others_nothing() {
    let name = "unbroken";
    let mut model = Model::start(name, Behaviour::default()).await;
    let batcher =
        sidecar(&model, with_settings!(settings(name), holding.hold_ms = 300, batching.objective_ms = 1000))
            .await;
    let other = infer_json(batcher.front, "unbroken-hangs-up", &[1]).await;
    assert_eq!(other.status, 503, "{}", other.text());
    assert_eq!(infer_json(batcher.front, name, &[3]).await.output("twice"), [6]);
    let upstreams = batcher.upstreams().await;
    assert_eq!(upstreams["upstreams"][0]["epoch"], 1, "{upstreams}");
    // A new server is asked about both again, and opens nevertheless.
    model.restart().await;
    until("the new server serves the other model", async || {
        infer_json(batcher.front, name, &[3]).await.status == 200
            && model.client_calls().last().is_some_and(|call| call.epoch == 2)
    })
    .await;
    let epoch = batcher.upstreams().await["upstreams"][0]["epoch"].clone();
    for id in 1..20 {
        assert_eq!(infer_json(batcher.front, name, &[id]).await.output("twice"), [id * 2]);
    }
    assert_eq!(batcher.upstreams().await["upstreams"][0]["epoch"], epoch, "and stays open");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_kills_under_load_lose_nothing_and_no_row_reaches_a_cold_server() {
    let name = "killed";
    kill_fifty_times(name, Model::start(name, Behaviour::default()).await).await;
}

/// Under load: nothing is lost, and no client's row reaches a cold server.
pub async fn kill_fifty_times(name: &'static str, mut model: Model) {
    let sizes = with_settings!(settings(name), batching.allowed_batch_rows = vec![1, 2, 4, 8]);
    let batcher = sidecar(&model, sizes).await;
    let front = batcher.front;
    let stop = Arc::new(AtomicBool::new(false));
    let next = Arc::new(AtomicI64::new(1));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (stop, next) = (Arc::clone(&stop), Arc::clone(&next));
            tokio::spawn(async move {
                let mut answered = 0_usize;
                while !stop.load(Ordering::SeqCst) {
                    let id = next.fetch_add(1, Ordering::SeqCst);
                    let got = infer_json(front, name, &[id]).await;
                    assert_eq!(got.status, 200, "{}", got.text());
                    assert_eq!(got.output("twice"), [id * 2]);
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    for _ in 0..50 {
        let epoch = model.epoch();
        // A few calls, so that what the last kill broke has been answered: requests are sent again only so often.
        until("clients are served by this run of the server", async || {
            model.client_calls().iter().filter(|call| call.epoch == epoch).count() > 4
        })
        .await;
        model.restart().await;
    }
    let epoch = model.epoch();
    until("the last run serves too", async || model.client_calls().iter().any(|call| call.epoch == epoch))
        .await;
    stop.store(true, Ordering::SeqCst);
    let mut answered = 0;
    for client in clients {
        answered += client.await.unwrap();
    }
    assert_eq!(answered as i64, next.load(Ordering::SeqCst) - 1, "exactly one answer per request");
    let calls = model.calls();
    assert_eq!(calls.last().unwrap().epoch, 51);
    assert_warm_before_clients(&calls, &[1, 2, 4, 8]);
    batcher.stop.cancel();
    tokio::time::timeout(Duration::from_secs(30), batcher.ended).await.unwrap().unwrap();
}
