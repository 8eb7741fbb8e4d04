//! Slots: shared between the models of one model server, and chosen by work among several model servers.

use std::net::SocketAddr;

use serde_json::json;
use sluice_batcher::settings::{Role, Settings, SlotSharing};
use sluice_batcher::with_settings;
use tokio::task::JoinHandle;

use crate::client::{Got, get, infer_json};
use crate::model::{Behaviour, Model};
use crate::start::{Batcher, hold_with, settings, sidecar, start, until};

/// For a model server's both models.
fn both(name: &str) -> Settings {
    with_settings!(
        settings(name),
        models.models = vec![name.to_owned(), format!("{name}-too")],
        batching.max_batch_rows = 1
    )
}

fn ask(front: SocketAddr, model: &'static str, id: i64) -> JoinHandle<Got> {
    tokio::spawn(async move { infer_json(front, model, &[id]).await })
}

async fn waiting_rows(batcher: &Batcher, model: &str) -> f64 {
    batcher.metric("sluice_batcher_queue_rows", &format!("model=\"{model}\"")).await
}

/// A gateway in front of these, all warm.
async fn gateway(name: &str, models: [&Model; 2], settings: Settings) -> Batcher {
    let upstreams = models.map(|model| {
        let member =
            json!({"name": format!("m-{}", model.address.port()), "address": model.address.to_string()});
        serde_json::from_value(member).unwrap()
    });
    let batcher =
        start(with_settings!(settings, servers.role = Role::Gateway, servers.upstreams = upstreams.into()))
            .await;
    let label = format!("model=\"{name}\"");
    until("both are warm", async || {
        let state = batcher.upstreams().await;
        let list = state["upstreams"].as_array().unwrap();
        list.len() == 2
            && list.iter().all(|upstream| upstream["state"] == "ready")
            && batcher.metric("sluice_batcher_slots", &label).await >= 2.0
    })
    .await;
    batcher
}

#[tokio::test]
async fn two_models_of_one_server_share_its_slot() {
    let (name, too) = ("shared", "shared-too");
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, both(name)).await;
    let front = batcher.front;
    let first = hold_with(&model, front, name, 1).await;
    let second = tokio::spawn(infer_json(front, too, &[2]));
    until("the other one waits", async || waiting_rows(&batcher, too).await == 1.0).await;
    assert_eq!(model.at_gate(), 1, "one batch at a time");
    assert_eq!(model.client_calls().len(), 1);
    model.open_gate();
    assert_eq!(first.await.unwrap().output("twice"), [2]);
    assert_eq!(second.await.unwrap().output("twice"), [4]);
    assert_eq!(waiting_rows(&batcher, too).await, 0.0);
}

#[tokio::test]
async fn each_model_has_its_own_slot_where_that_is_set() {
    let (name, too) = ("owned", "owned-too");
    let model = Model::start(name, Behaviour::default()).await;
    let settings = with_settings!(both(name), batching.slot_sharing = SlotSharing::PerModel);
    let batcher = sidecar(&model, settings).await;
    model.close_gate();
    let first = tokio::spawn(infer_json(batcher.front, name, &[1]));
    let second = tokio::spawn(infer_json(batcher.front, too, &[2]));
    until("both are at the model", async || model.at_gate() == 2).await;
    model.open_gate();
    assert_eq!(first.await.unwrap().status, 200);
    assert_eq!(second.await.unwrap().status, 200);
}

#[tokio::test]
async fn a_model_with_much_to_do_does_not_keep_the_slot_from_another() {
    let (name, too) = ("greedy", "greedy-too");
    let behaviour = Behaviour { alpha_us: 5000.into(), ..Behaviour::default() };
    let model = Model::start(name, behaviour).await;
    let batcher = sidecar(&model, both(name)).await;
    let front = batcher.front;
    model.close_gate();
    let mut requests: Vec<_> = (1..=20).map(|id| ask(front, name, id)).collect();
    until("all but one wait", async || waiting_rows(&batcher, name).await == 19.0).await;
    requests.extend((1..=3).map(|id| ask(front, too, id)));
    until("the other model's wait too", async || waiting_rows(&batcher, too).await == 3.0).await;
    model.open_gate();
    for request in requests {
        assert_eq!(request.await.unwrap().status, 200);
    }
    let calls = model.client_calls();
    let last_of_other = calls.iter().rposition(|call| call.too).unwrap();
    // In turn they would be the 2nd, 4th and 6th; times vary, and fairness is one of time.
    assert!(last_of_other < 15, "the other model's last batch was number {last_of_other} of {}", calls.len());
}

#[tokio::test]
async fn a_batch_goes_where_the_least_runs() {
    let name = "spread";
    let one = Model::start(name, Behaviour::default()).await;
    let two = Model::start(name, Behaviour::default()).await;
    let slots = with_settings!(settings(name), batching.slots_per_upstream = 2, batching.max_batch_rows = 1);
    let batcher = gateway(name, [&one, &two], slots).await;
    one.close_gate();
    two.close_gate();
    let front = batcher.front;
    let mut requests = Vec::new();
    for (id, at_each) in [(1, 1), (2, 1), (3, 2), (4, 2)] {
        requests.push(ask(front, name, id));
        until("it is at a model", async || one.at_gate() + two.at_gate() == id as usize).await;
        assert!(one.at_gate() <= at_each && two.at_gate() <= at_each, "{} {}", one.at_gate(), two.at_gate());
    }
    one.open_gate();
    two.open_gate();
    for request in requests {
        assert_eq!(request.await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_slow_model_server_gets_less() {
    let name = "uneven";
    let slow = Model::start(name, Behaviour { alpha_us: 300_000.into(), ..Behaviour::default() }).await;
    let fast = Model::start(name, Behaviour::default()).await;
    let batcher =
        gateway(name, [&slow, &fast], with_settings!(settings(name), batching.max_batch_rows = 1)).await;
    // A disturbance may make either look slow for a while, but not for ever.
    until("the fast one has got most", async || {
        assert_eq!(infer_json(batcher.front, name, &[1]).await.status, 200);
        fast.client_calls().len() > 5 + 2 * slow.client_calls().len()
    })
    .await;
}

#[tokio::test]
async fn what_passes_through_goes_where_the_least_is_in_flight() {
    let name = "passing";
    let stuck = Model::start(name, Behaviour::default()).await;
    let free = Model::start(name, Behaviour::default()).await;
    let batcher = gateway(name, [&stuck, &free], settings(name)).await;
    let front = batcher.front;
    stuck.close_gate();
    // One of two in turn comes to the stuck one; from then on all go to the other.
    let mut requests = Vec::new();
    while stuck.at_gate() == 0 {
        let request = tokio::spawn(get(front, "/gated"));
        until("it is stuck or answered", async || stuck.at_gate() == 1 || request.is_finished()).await;
        requests.push(request);
        assert!(requests.len() <= 2, "two model servers take turns");
    }
    for _ in 0..6 {
        assert_eq!(get(front, "/gated").await.status, 200);
    }
    assert_eq!(stuck.at_gate(), 1);
    stuck.open_gate();
    for request in requests {
        assert_eq!(request.await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_model_server_that_runs_batches_side_by_side_is_found_out() {
    let name = "parallel";
    let behaviour = Behaviour { alpha_us: 5000.into(), ..Behaviour::default() };
    let model = Model::start(name, behaviour).await;
    let settings =
        with_settings!(settings(name), batching.slots_per_upstream = 0, batching.max_batch_rows = 1);
    let batcher = sidecar(&model, settings).await;
    let label = format!("model=\"{name}\"");
    assert_eq!(batcher.metric("sluice_batcher_slots", &label).await, 1.0);
    let front = batcher.front;
    let clients: Vec<_> = (1..=16)
        .map(|id| {
            tokio::spawn(async move {
                loop {
                    assert_eq!(infer_json(front, name, &[id]).await.output("twice"), [id * 2]);
                }
            })
        })
        .collect();
    until("more than one slot is in use", async || {
        batcher.metric("sluice_batcher_slots", &label).await >= 2.0
    })
    .await;
    for client in clients {
        assert!(!client.is_finished());
        client.abort();
    }
}
