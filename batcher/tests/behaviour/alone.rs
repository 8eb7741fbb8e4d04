//! Requests that spoil a batch fail alone, and requests that never share a batch.

use http::HeaderValue;
use serde_json::json;
use sluice_batcher::with_settings;

use crate::client::{infer_json, json_body, post, request, send};
use crate::model::{Behaviour, Model};
use crate::start::{hold_with, settings, sidecar, until};

#[tokio::test]
async fn one_bad_row_among_64_costs_at_most_two_calls_per_halving() {
    let name = "bisect";
    let model = Model::start(name, Behaviour { poison: Some(666), ..Behaviour::default() }).await;
    let batcher = sidecar(&model, with_settings!(settings(name), batching.max_batch_rows = 64)).await;
    let front = batcher.front;
    let first = hold_with(&model, front, name, 1).await;
    let ids = (100..164).map(|id| if id == 137 { 666 } else { id });
    let waiting: Vec<_> =
        ids.map(|id| (id, tokio::spawn(async move { infer_json(front, name, &[id]).await }))).collect();
    let label = format!("model=\"{name}\"");
    until("all wait", async || batcher.metric("sluice_batcher_queue_rows", &label).await == 64.0).await;
    model.open_gate();
    first.await.unwrap();
    for (id, request) in waiting {
        let got = request.await.unwrap();
        if id == 666 {
            assert_eq!(
                (got.status, got.text().as_str()),
                (400, "{\"error\":\"poisoned, says the model server\"}")
            );
        } else {
            assert_eq!(got.output("twice"), [id * 2]);
        }
    }
    let sizes: Vec<usize> = model.client_calls().iter().map(|call| call.ids.len()).collect();
    assert_eq!(sizes[..2], [1, 64]);
    let extra = sizes.len() - 2;
    assert!(extra <= 2 * 6, "{extra} calls beyond the first: {sizes:?}");
}

#[tokio::test]
async fn what_must_not_be_merged_reaches_the_server_alone_and_as_it_came() {
    let name = "never-merged";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let front = batcher.front;
    let input = |id: i64| json!({"name": "id", "datatype": "INT64", "shape": [1, 1], "data": [id]});
    let with_parameter =
        |name: &str, value: serde_json::Value| json!({"parameters": {name: value}, "inputs": [input(7)]});
    let bodies = [
        with_parameter("sequence_id", json!(3)),
        with_parameter("stream", json!(true)),
        with_parameter("seed", json!(1)),
        with_parameter("triton_enable_empty_final_response", json!(true)),
        json!({"extra": [1], "inputs": [input(7)]}),
        json!({"inputs": [input(7), input(7)]}),
        json!({"inputs": [input(7), {"name": "n", "datatype": "INT64", "shape": [2, 1], "data": [7, 7]}]}),
        json!({"inputs": [{"name": "id", "datatype": "INT64", "shape": [], "data": [7]}]}),
    ];
    let first = hold_with(&model, front, name, 1).await;
    let path = format!("/v2/models/{name}/infer");
    // Each twice: not even two equal requests share a batch.
    let waiting: Vec<_> = bodies
        .iter()
        .chain(&bodies)
        .map(|body| {
            let (path, body) = (path.clone(), body.to_string());
            tokio::spawn(async move { post(front, &path, body).await })
        })
        .collect();
    let label = format!("model=\"{name}\"");
    until("all wait", async || {
        batcher.metric("sluice_batcher_queue_rows", &label).await == 2.0 * bodies.len() as f64
    })
    .await;
    model.open_gate();
    first.await.unwrap();
    for request in waiting {
        let got = request.await.unwrap();
        assert_eq!(got.output("twice"), [14], "{}", got.text());
    }
    let sizes: Vec<usize> = model.client_calls().iter().map(|call| call.ids.len()).collect();
    assert_eq!(sizes, vec![1; 1 + 2 * bodies.len()]);
}

#[tokio::test]
async fn requests_share_a_batch_only_with_the_same_credentials_which_go_with_it() {
    let name = "guarded";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let blocker = hold_with(&model, batcher.front, name, 100).await;
    let with_token = |token: &'static str, id: i64| {
        let mut asked = request("POST", &format!("/v2/models/{name}/infer"), json_body(&[id]));
        asked.headers_mut().insert("authorization", HeaderValue::from_static(token));
        tokio::spawn(send(batcher.front, asked))
    };
    let asked: Vec<_> = [("a", 1), ("b", 2), ("a", 3), ("b", 4)].map(|(t, id)| with_token(t, id)).into();
    until("four wait", async || {
        batcher.metric("sluice_batcher_queue_rows", &format!("model=\"{name}\"")).await == 4.0
    })
    .await;
    model.open_gate();
    blocker.await.unwrap();
    for (id, asked) in (1..).zip(asked) {
        assert_eq!(asked.await.unwrap().output("twice"), [2 * id]);
    }
    let calls = model.client_calls();
    let mut shared: Vec<(Option<String>, Vec<i64>)> =
        calls.iter().skip(1).map(|call| (call.authorization.clone(), call.ids.clone())).collect();
    shared.sort();
    assert_eq!(shared, [(Some("a".into()), vec![1, 3]), (Some("b".into()), vec![2, 4])]);
}
