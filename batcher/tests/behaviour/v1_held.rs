//! Requests whose meaning depends on the model's metadata, and that come before it is known or while it changes: how
//! they are sent is decided only when they are sent.

use std::net::SocketAddr;

use serde_json::json;
use sluice_batcher::settings::{Batching, Role, Warmup};
use sluice_batcher::with_settings;
use tokio::task::JoinHandle;

use crate::client::{Got, infer_json, post, request, send};
use crate::model::{Behaviour, Model};
use crate::start::{Batcher, settings, sidecar, start, until};

fn predict(front: SocketAddr, model: &str, id: i64) -> JoinHandle<Got> {
    let path = format!("/v1/models/{model}:predict");
    tokio::spawn(async move { post(front, &path, format!("{{\"instances\":[[{id}]]}}")).await })
}

fn raw(front: SocketAddr, model: &str, id: i64) -> JoinHandle<Got> {
    let mut raw = request("POST", &format!("/v2/models/{model}/infer"), id.to_le_bytes().to_vec());
    raw.headers_mut().insert("inference-header-content-length", 0.into());
    tokio::spawn(send(front, raw))
}

async fn until_waiting(batcher: &Batcher, name: &str, rows: f64) {
    let label = format!("model=\"{name}\"");
    until("all wait", async || batcher.metric("sluice_batcher_queue_rows", &label).await == rows).await;
}

fn assert_predicted(got: &Got, id: i64) {
    let prediction = json!({"predictions": [{"id": [id], "twice": [id * 2]}]});
    assert_eq!((got.status, got.text()), (200, prediction.to_string()));
}

#[tokio::test]
async fn predictions_that_are_held_while_the_model_is_cold_are_served_by_a_server_of_v2_alone() {
    let name = "v1-held";
    let mut model = Model::reserve(name, Behaviour::default()).await;
    let batcher = start(with_settings!(settings(name), servers.upstream = Some(model.upstream()))).await;
    let asked = [5, 6, 7].map(|id| (id, predict(batcher.front, name, id)));
    until_waiting(&batcher, name, 3.0).await;
    model.restart().await;
    for (id, got) in asked {
        assert_predicted(&got.await.unwrap(), id);
    }
    let calls = model.client_calls();
    assert_eq!((calls.len(), calls[0].ids.len()), (1, 3), "they share a call: {calls:?}");
}

#[tokio::test]
async fn the_first_prediction_of_a_model_that_was_not_named_is_served_by_a_server_of_v2_alone() {
    let name = "v1-first";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, with_settings!(settings(name), models.models = vec![])).await;
    assert_predicted(&predict(batcher.front, name, 5).await.unwrap(), 5);
}

#[tokio::test]
async fn a_prediction_that_wakes_a_gateway_from_zero_is_served_by_a_server_of_v2_alone() {
    let name = "v1-woken";
    let dir = tempfile::tempdir().unwrap();
    let members = dir.path().join("members.json");
    std::fs::write(&members, r#"{"upstreams":[]}"#).unwrap();
    let gateway = with_settings!(
        settings(name),
        servers.role = Role::Gateway,
        servers.members = Some(members.clone()),
        models.models = vec![]
    );
    let batcher = start(gateway).await;
    let asked = predict(batcher.front, name, 5);
    until("it waits to hear whether there is such a model", async || {
        batcher.unconfirmed_waiting().await == 1.0
    })
    .await;
    let model = Model::start(name, Behaviour::default()).await;
    let list = json!({"upstreams": [{"name": "m", "address": model.address.to_string()}]});
    let next = dir.path().join("next.json");
    std::fs::write(&next, list.to_string()).unwrap();
    std::fs::rename(next, members).unwrap();
    assert_predicted(&asked.await.unwrap(), 5);
}

#[tokio::test]
async fn a_raw_body_that_is_held_is_written_as_the_server_reads_it() {
    let name = "raw-held";
    let mut model = Model::reserve(name, Behaviour { extensions: vec![], ..Behaviour::default() }).await;
    let batcher = start(with_settings!(settings(name), servers.upstream = Some(model.upstream()))).await;
    let asked = raw(batcher.front, name, 8);
    until_waiting(&batcher, name, 1.0).await;
    model.restart().await;
    let got = asked.await.unwrap();
    assert_eq!(got.status, 200, "{}", got.text());
    assert!(got.body.ends_with(&[8i64.to_le_bytes(), 16i64.to_le_bytes()].concat()), "all outputs are raw");
    assert_eq!(model.client_calls()[0].form, "json", "the server does not read raw tensors");
}

/// A model server gives its port to another one while predictions wait.
async fn replaced(name: &'static str, before: Behaviour, after: Behaviour) -> (Vec<Got>, Model) {
    let mut old = Model::start(name, before).await;
    let any = with_settings!(settings(name), batching.batching = Batching::On, warm_up.warmup = Warmup::Off);
    let batcher = sidecar(&old, any).await;
    let first = match old.behaviour().v1 {
        true => predict(batcher.front, name, 1).await.unwrap(),
        false => infer_json(batcher.front, name, &[1]).await,
    };
    assert_eq!(first.status, 200, "{}", first.text());
    old.kill();
    until("it is gone", async || batcher.upstreams().await["upstreams"][0]["state"] != "ready").await;
    let asked = [5, 6].map(|id| predict(batcher.front, name, id));
    until_waiting(&batcher, name, 2.0).await;
    let mut new = Model::reserve(name, after).await;
    new.address = old.address;
    new.restart().await;
    let mut got = Vec::new();
    for asked in asked {
        got.push(asked.await.unwrap());
    }
    (got, new)
}

#[tokio::test]
async fn predictions_follow_a_model_server_that_is_replaced_by_one_of_the_other_protocol() {
    let v1_alone = || Behaviour { v1: true, v1_alone: true, ..Behaviour::default() };
    let (got, model) = replaced("v1-then-v2", v1_alone(), Behaviour::default()).await;
    for (id, got) in (5..).zip(&got) {
        assert_predicted(got, id);
    }
    assert_eq!(model.client_calls().len(), 1, "{:?}", model.client_calls());

    let (got, model) = replaced("v2-then-v1", Behaviour::default(), v1_alone()).await;
    for (id, got) in (5..).zip(&got) {
        assert_eq!((got.status, got.text()), (200, format!("{{\"predictions\":[{}]}}", id * 2)));
    }
    assert_eq!(model.client_calls().len(), 1, "they share a call too: {:?}", model.client_calls());
}
