//! Requests that break, stall or overtax the calls that they are in: only they fail, and finding them costs few calls.

use std::collections::BTreeMap;

use http::HeaderValue;
use serde_json::json;
use sluice_batcher::settings::Batching;
use sluice_batcher::with_settings;
use tokio::task::JoinHandle;

use crate::client::{Got, infer_json, json_body, post, request, send};
use crate::model::{Behaviour, Model};
use crate::start::{Batcher, hold_with, settings, sidecar, until};

const KILLER: i64 = 666;

/// One row, of a tenant where it is not empty.
fn ask(batcher: &Batcher, name: &'static str, id: i64, tenant: &'static str) -> JoinHandle<Got> {
    let front = batcher.front;
    tokio::spawn(async move {
        let mut request = request("POST", &format!("/v2/models/{name}/infer"), json_body(&[id]));
        if !tenant.is_empty() {
            request.headers_mut().insert("x-sluice-tenant", HeaderValue::from_static(tenant));
        }
        send(front, request).await
    })
}

/// Sends these so that they share a batch, behind a first one that holds the model server until all wait.
async fn in_one_batch(
    model: &Model,
    batcher: &Batcher,
    name: &'static str,
    ids: &[i64],
) -> BTreeMap<i64, JoinHandle<Got>> {
    let first = hold_with(model, batcher.front, name, 1).await;
    let asked = ids.iter().map(|&id| (id, ask(batcher, name, id, ""))).collect();
    until_waiting(batcher, name, ids.len()).await;
    model.open_gate();
    // Whether it was in time is not in question here.
    first.await.unwrap();
    asked
}

/// Holds a model server of two slots, so that what is sent next waits.
async fn both_slots_held(model: &Model, batcher: &Batcher, name: &'static str) -> [JoinHandle<Got>; 2] {
    let first = hold_with(model, batcher.front, name, 1).await;
    let second = ask(batcher, name, 1, "");
    until("both are at the model", async || model.at_gate() == 2).await;
    [first, second]
}

async fn until_waiting(batcher: &Batcher, name: &str, rows: usize) {
    let label = format!("model=\"{name}\"");
    until("all wait", async || batcher.metric("sluice_batcher_queue_rows", &label).await == rows as f64)
        .await;
}

fn assert_answered(got: &Got, id: i64) {
    assert_eq!(got.status, 200, "{id}: {}", got.text());
    assert_eq!(got.output("twice"), [id * 2]);
}

/// Calls after the first one, which only holds the model server.
fn calls_after_first(model: &Model) -> Vec<Vec<i64>> {
    model.client_calls().into_iter().skip(1).map(|call| call.ids).collect()
}

#[tokio::test]
async fn a_request_that_breaks_its_connection_fails_alone() {
    let name = "breaks";
    let model = Model::start(name, Behaviour { breaks: Some(KILLER), ..Behaviour::default() }).await;
    let batcher = sidecar(&model, settings(name)).await;
    let mut asked = in_one_batch(&model, &batcher, name, &[2, 3, 4, 5, 6, 7, 8, KILLER]).await;
    let killer = asked.remove(&KILLER).unwrap();
    for (id, got) in asked {
        assert_answered(&got.await.unwrap(), id);
    }
    let got = killer.await.unwrap();
    assert_eq!(got.status, 502, "{}", got.text());
    assert!(got.text().contains("connection broke 3 times"), "{}", got.text());
    let calls = calls_after_first(&model);
    assert!(calls.len() <= 1 + 2 * 3 + 2, "the batch, halves at three levels, two retries: {calls:?}");
    assert_eq!(calls.iter().filter(|ids| **ids == [KILLER]).count(), 3, "sent again twice: {calls:?}");
}

#[tokio::test]
async fn without_retries_too_only_the_request_that_breaks_its_connection_fails() {
    let name = "breaks-once";
    let model = Model::start(name, Behaviour { breaks: Some(KILLER), ..Behaviour::default() }).await;
    let batcher = sidecar(&model, with_settings!(settings(name), servers.retries = 0)).await;
    let mut asked = in_one_batch(&model, &batcher, name, &[2, 3, 4, KILLER, 6]).await;
    let killer = asked.remove(&KILLER).unwrap();
    for (id, got) in asked {
        assert_answered(&got.await.unwrap(), id);
    }
    assert_eq!(killer.await.unwrap().status, 502);
    let calls = calls_after_first(&model);
    assert_eq!(calls.iter().filter(|ids| **ids == [KILLER]).count(), 1, "{calls:?}");
}

#[tokio::test]
async fn a_grpc_call_that_is_reset_fails_alone() {
    let name = "resets";
    let behaviour = Behaviour { breaks: Some(KILLER), grpc_only: true, ..Behaviour::default() };
    let model = Model::start(name, behaviour).await;
    let batcher = sidecar(&model, settings(name)).await;
    let mut asked = in_one_batch(&model, &batcher, name, &[2, 3, 4, KILLER]).await;
    let killer = asked.remove(&KILLER).unwrap();
    for (id, got) in asked {
        assert_answered(&got.await.unwrap(), id);
    }
    assert_eq!(killer.await.unwrap().status, 502);
}

#[tokio::test]
async fn a_request_that_kills_the_whole_server_takes_nobody_along() {
    let name = "kills";
    let mut model = Model::start(name, Behaviour { stalls: Some(KILLER), ..Behaviour::default() }).await;
    let slots = with_settings!(
        settings(name),
        batching.slots_per_upstream = 2,
        batching.max_batch_rows = 4,
        servers.retries = 1
    );
    let batcher = sidecar(&model, slots).await;
    let mut asked: BTreeMap<i64, JoinHandle<Got>> =
        [2, 3, 4, KILLER, 6, 7, 8].map(|id| (id, ask(&batcher, name, id, ""))).into();
    let killer = asked.remove(&KILLER).unwrap();
    // It dies as often as it is asked for that one.
    let mut deaths = 0;
    while !killer.is_finished() {
        let killing = async || {
            let asked = model.calls().iter().filter(|call| call.ids.contains(&KILLER)).count();
            asked > deaths || killer.is_finished()
        };
        until("it is asked for the killer, or the killer has failed", killing).await;
        if !killer.is_finished() {
            deaths = model.calls().iter().filter(|call| call.ids.contains(&KILLER)).count();
            model.restart().await;
        }
    }
    for (id, got) in asked {
        assert_answered(&got.await.unwrap(), id);
    }
    assert_eq!(killer.await.unwrap().status, 502);
    assert!(
        deaths <= 2 + 1 + 1 + 3,
        "two levels of halves, alone, a retry, three beside others: {deaths} deaths"
    );
}

#[tokio::test]
async fn who_repeats_a_killer_takes_nobody_along_and_soon_shares_no_batch() {
    let name = "repeats";
    let model = Model::start(name, Behaviour { breaks: Some(KILLER), ..Behaviour::default() }).await;
    let batcher = sidecar(&model, settings(name)).await;
    let with_killer = async |round: i64| {
        let first = hold_with(&model, batcher.front, name, 1).await;
        let killer = ask(&batcher, name, KILLER, "mallory");
        let others: Vec<_> = (1..8)
            .map(|at| {
                let id = round * 10 + at;
                (id, ask(&batcher, name, id, "alice"))
            })
            .collect();
        until_waiting(&batcher, name, 8).await;
        let before = model.client_calls().len();
        model.open_gate();
        first.await.unwrap();
        for (id, got) in others {
            assert_answered(&got.await.unwrap(), id);
        }
        assert_eq!(killer.await.unwrap().status, 502);
        model.client_calls().split_off(before)
    };
    let shared = |calls: &[crate::model::Call]| {
        calls.iter().filter(|call| call.ids.contains(&KILLER) && call.ids.len() > 1).count()
    };
    let calls = with_killer(1).await;
    assert_eq!(shared(&calls), 3, "{calls:?}");
    for round in 2..4 {
        let calls = with_killer(round).await;
        assert_eq!(shared(&calls), 0, "{calls:?}");
    }
}

#[tokio::test]
async fn a_request_that_stalls_its_batch_fails_alone() {
    let name = "stalls";
    let model = Model::start(name, Behaviour { stalls: Some(KILLER), ..Behaviour::default() }).await;
    let batcher = sidecar(&model, with_settings!(settings(name), servers.upstream_timeout_ms = 3000)).await;
    let mut asked = in_one_batch(&model, &batcher, name, &[2, 3, KILLER, 5]).await;
    let staller = asked.remove(&KILLER).unwrap();
    for (id, got) in asked {
        assert_answered(&got.await.unwrap(), id);
    }
    let got = staller.await.unwrap();
    assert_eq!(got.status, 504, "{}", got.text());
    let calls = calls_after_first(&model);
    assert_eq!(calls.iter().filter(|ids| **ids == [KILLER]).count(), 1, "{calls:?}");
}

#[tokio::test]
async fn a_stalled_batch_is_tried_on_another_slot_long_before_its_time_is_up() {
    let name = "stalls-early";
    let model = Model::start(name, Behaviour { stalls: Some(KILLER), ..Behaviour::default() }).await;
    let slots = with_settings!(
        settings(name),
        batching.slots_per_upstream = 2,
        servers.upstream_timeout_ms = 600_000
    );
    let batcher = sidecar(&model, slots).await;
    // Both slots are held until all wait.
    let held = both_slots_held(&model, &batcher, name).await;
    let ids = [2, 3, 4, 5, 6, 7, 8];
    let asked = ids.map(|id| (id, ask(&batcher, name, id, "")));
    let staller = ask(&batcher, name, KILLER, "");
    until_waiting(&batcher, name, 8).await;
    model.open_gate();
    for held in held {
        assert_eq!(held.await.unwrap().status, 200);
    }
    for (id, got) in asked {
        assert_answered(&got.await.unwrap(), id);
    }
    assert!(!staller.is_finished(), "it alone waits for its time to be up");
    assert_answered(&infer_json(batcher.front, name, &[9]).await, 9);
}

#[tokio::test]
async fn a_slow_batch_is_answered_by_whichever_call_has_it_first() {
    let name = "slow-first";
    let model = Model::start(name, Behaviour::default()).await;
    let slots = with_settings!(settings(name), batching.slots_per_upstream = 2);
    let batcher = sidecar(&model, slots).await;
    let held = both_slots_held(&model, &batcher, name).await;
    let asked = [2, 3, 4, 5].map(|id| (id, ask(&batcher, name, id, "")));
    until_waiting(&batcher, name, 4).await;
    model.open_gate();
    for held in held {
        assert_eq!(held.await.unwrap().status, 200);
    }
    for (id, got) in asked {
        assert_answered(&got.await.unwrap(), id);
    }
    // The calls of a batch that is held are no more than it and its halves, however long it is held.
    let before = model.client_calls().len();
    model.close_gate();
    let slow = [2, 3, 4, 5].map(|id| (id, ask(&batcher, name, id, "")));
    until("a batch is tried again", async || model.at_gate() >= 2).await;
    model.open_gate();
    for (id, got) in slow {
        assert_answered(&got.await.unwrap(), id);
    }
    let calls = model.client_calls().split_off(before);
    assert!(calls.len() <= 4 + 4, "{calls:?}");
}

#[tokio::test]
async fn answers_that_are_too_large_together_come_one_by_one() {
    let name = "large";
    let model = Model::start(name, Behaviour { row_bytes: 16 << 10, ..Behaviour::default() }).await;
    let limit =
        with_settings!(settings(name), batching.max_batch_rows = 24, limits.max_body_bytes = 256 << 10);
    let batcher = sidecar(&model, limit).await;
    let ids: Vec<i64> = (2..26).collect();
    for (id, got) in in_one_batch(&model, &batcher, name, &ids).await {
        assert_answered(&got.await.unwrap(), id);
    }
    let sizes: Vec<usize> = calls_after_first(&model).iter().map(Vec::len).collect();
    assert_eq!(sizes, [24, 12, 12], "halved once");
}

#[tokio::test]
async fn of_a_model_that_keeps_a_state_nobody_is_blamed_for_what_all_of_a_call_did() {
    let name = "large-stateful";
    let config = (200, r#"{"max_batch_size":8,"sequence_batching":{}}"#.to_owned());
    let model = Model::start(name, Behaviour { row_bytes: 16 << 10, config, ..Behaviour::default() }).await;
    let limit =
        with_settings!(settings(name), batching.batching = Batching::On, limits.max_body_bytes = 64 << 10);
    let batcher = sidecar(&model, limit).await;
    let in_one_call = async |ids: [i64; 2], width: usize| {
        let before = model.client_calls().len();
        let first = hold_with(&model, batcher.front, name, 1).await;
        let asked: Vec<_> = (0..width)
            .flat_map(|_| [ask(&batcher, name, ids[0], "a"), ask(&batcher, name, ids[1], "b")])
            .collect();
        until_waiting(&batcher, name, 2 * width).await;
        model.open_gate();
        first.await.unwrap();
        let mut statuses = Vec::new();
        for asked in asked {
            statuses.push(asked.await.unwrap().status);
        }
        // But for the one that held the model server.
        let calls: Vec<usize> =
            model.client_calls()[before + 1..].iter().map(|call| call.ids.len()).collect();
        (statuses, calls)
    };
    assert_eq!(in_one_call([2, 3], 4).await, (vec![502; 8], vec![8]), "nothing is sent twice");
    assert_eq!(in_one_call([4, 5], 1).await, (vec![200; 2], vec![2]), "they share a call as before");
}

#[tokio::test]
async fn a_bad_gateway_of_the_model_servers_own_is_for_the_request_that_it_is_about() {
    let name = "own-proxy";
    let model = Model::start(name, Behaviour { bad_gateway: Some(KILLER), ..Behaviour::default() }).await;
    let batcher = sidecar(&model, settings(name)).await;
    let mut asked = in_one_batch(&model, &batcher, name, &[2, 3, KILLER, 5]).await;
    let killer = asked.remove(&KILLER).unwrap();
    for (id, got) in asked {
        assert_answered(&got.await.unwrap(), id);
    }
    let got = killer.await.unwrap();
    assert_eq!(got.status, 502);
    assert!(got.text().contains("a worker died"), "{}", got.text());
}

#[tokio::test]
async fn a_step_of_a_sequence_is_never_sent_twice() {
    let name = "step";
    let model = Model::start(name, Behaviour { breaks: Some(KILLER), ..Behaviour::default() }).await;
    let batcher = sidecar(&model, settings(name)).await;
    let path = format!("/v2/models/{name}/infer");
    let inputs = json!([{"name": "id", "datatype": "INT64", "shape": [1, 1], "data": [KILLER]}]);
    let steps = [
        json!({"parameters": {"sequence_id": 7, "sequence_start": true}, "inputs": inputs}),
        json!({"parameters": {"sequence_id": 8, "seed": 1}, "inputs": inputs}),
        json!({"parameters": {"sequence_id": "nine"}, "inputs": inputs, "unknown": 1}),
        // Not understood: a parameter of a kind that there is not.
        json!({"parameters": {"sequence_id": [7]}, "inputs": inputs}),
    ];
    for (before, step) in steps.iter().enumerate() {
        let got = post(batcher.front, &path, step.to_string()).await;
        assert_eq!(got.status, 502, "{}", got.text());
        assert!(got.text().contains("sequence"), "{}", got.text());
        assert_eq!(model.client_calls().len(), before + 1, "{step}");
    }
    // What comes after a step that may have been executed is not sent at all: it would count on it.
    let after = json!({"parameters": {"sequence_id": 7, "sequence_end": true}, "inputs": inputs});
    let got = post(batcher.front, &path, after.to_string()).await;
    assert_eq!(got.status, 409, "{}", got.text());
    assert!(got.text().contains("begin the sequence anew"), "{}", got.text());
    assert_eq!(model.client_calls().len(), steps.len());
}
