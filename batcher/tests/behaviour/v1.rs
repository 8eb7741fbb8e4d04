//! V1 `:predict`: batches of V1 requests, and V1 requests in V2 batches.

use std::net::SocketAddr;

use serde_json::json;
use sluice_batcher::settings::Batching;
use sluice_batcher::with_settings;
use tokio::task::JoinHandle;

use crate::client::{Got, grpc_output, infer_binary, infer_grpc, infer_json, post, request, send};
use crate::model::{Behaviour, Model};
use crate::start::{Batcher, hold_with, settings, sidecar, until};

async fn predict(front: SocketAddr, model: &str, body: &str) -> Got {
    post(front, &format!("/v1/models/{model}:predict"), body.to_owned()).await
}

/// A server with V1 and no metadata: what is merged follows from the bodies alone.
async fn v1_server(name: &str, behaviour: Behaviour) -> (Model, Batcher) {
    let model = Model::start(name, Behaviour { v1: true, ..behaviour }).await;
    let batcher = sidecar(&model, with_settings!(settings(name), batching.batching = Batching::On)).await;
    (model, batcher)
}

/// Sends these bodies at once; they wait behind a first one, so that they can share a batch.
async fn behind_a_first(model: &Model, batcher: &Batcher, name: &'static str, bodies: &[&str]) -> Vec<Got> {
    let front = batcher.front;
    let send = |body: &str| -> JoinHandle<Got> {
        let body = body.to_owned();
        tokio::spawn(async move { predict(front, name, &body).await })
    };
    model.close_gate();
    let first = send(r#"{"instances":[[1]]}"#);
    until("the first is at the model", async || model.at_gate() == 1).await;
    let others: Vec<_> = bodies.iter().map(|body| send(body)).collect();
    let label = format!("model=\"{name}\"");
    let waiting = bodies.len() as f64;
    until("all wait", async || batcher.metric("sluice_batcher_queue_rows", &label).await >= waiting).await;
    model.open_gate();
    assert_eq!(first.await.unwrap().status, 200);
    let mut got = Vec::new();
    for other in others {
        got.push(other.await.unwrap());
    }
    got
}

#[tokio::test]
async fn v1_requests_share_a_call_to_the_v1_path() {
    let name = "v1-one-call";
    let (model, batcher) = v1_server(name, Behaviour::default()).await;
    let bodies =
        [r#"{"instances":[2,3]}"#, r#"{ "instances" : [ 9007199254740993 ] }"#, r#"{"instances":[5]}"#];
    let got = behind_a_first(&model, &batcher, name, &bodies).await;
    let texts: Vec<_> = got.iter().map(Got::text).collect();
    assert_eq!(
        texts,
        [r#"{"predictions":[4,6]}"#, r#"{"predictions":[18014398509481986]}"#, r#"{"predictions":[10]}"#]
    );
    let calls = model.client_calls();
    assert_eq!((calls.len(), calls[1].form, calls[1].ids.len()), (2, "v1", 4), "{calls:?}");
    let counted = format!("model=\"{name}\",form=\"v1\",outcome=\"ok\"");
    assert_eq!(batcher.metric("sluice_batcher_requests_total", &counted).await, 4.0);
}

#[tokio::test]
async fn columns_share_a_call_and_stay_apart_from_instances() {
    let name = "v1-columns";
    let (model, batcher) = v1_server(name, Behaviour::default()).await;
    let bodies = [r#"{"inputs":{"id":[2]}}"#, r#"{"instances":[3]}"#, r#"{"inputs":{"id":[4,5]}}"#];
    let got = behind_a_first(&model, &batcher, name, &bodies).await;
    let texts: Vec<_> = got.iter().map(Got::text).collect();
    assert_eq!(
        texts,
        [r#"{"outputs":{"twice":[4]}}"#, r#"{"predictions":[6]}"#, r#"{"outputs":{"twice":[8,10]}}"#]
    );
    let mut sizes: Vec<_> = model.client_calls().iter().map(|call| call.ids.len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 1, 3]);
}

#[tokio::test]
async fn a_poisoned_instance_fails_alone_and_a_wrong_count_is_asked_for_again() {
    let name = "v1-poison";
    let (model, batcher) = v1_server(name, Behaviour { poison: Some(666), ..Behaviour::default() }).await;
    let bodies = [r#"{"instances":[2]}"#, r#"{"instances":[666]}"#, r#"{"instances":[3]}"#];
    let got = behind_a_first(&model, &batcher, name, &bodies).await;
    let texts: Vec<_> = got.iter().map(Got::text).collect();
    assert_eq!(
        texts,
        [
            r#"{"predictions":[4]}"#,
            r#"{"error":"poisoned, says the model server"}"#,
            r#"{"predictions":[6]}"#
        ]
    );
    assert_eq!(got[1].status, 400);

    let name = "v1-one-row";
    let (model, batcher) = v1_server(name, Behaviour { one_row_only: true, ..Behaviour::default() }).await;
    let got = behind_a_first(&model, &batcher, name, &[r#"{"instances":[2]}"#, r#"{"instances":[3]}"#]).await;
    let texts: Vec<_> = got.iter().map(Got::text).collect();
    assert_eq!(texts, [r#"{"predictions":[4]}"#, r#"{"predictions":[6]}"#]);
}

#[tokio::test]
async fn other_verbs_and_bodies_that_are_no_prediction_reach_the_server_as_they_are() {
    let name = "v1-pass";
    let (_model, batcher) = v1_server(name, Behaviour::default()).await;
    for verb in ["classify", "regress", "explain"] {
        let path = format!("/v1/models/{name}:{verb}");
        let got = post(batcher.front, &path, r#"{"instances":[1]}"#).await;
        assert_eq!((got.status, got.text()), (200, json!({"path": path, "bytes": 17}).to_string()));
    }
    let got = predict(batcher.front, name, r#"{"instances": 7"#).await;
    assert_eq!(
        (got.status, got.text().as_str()),
        (400, r#"{"error":"no instances, says the model server"}"#)
    );
}

#[tokio::test]
async fn v1_json_binary_and_grpc_clients_share_a_call_to_a_server_of_v2_alone() {
    let name = "v1-joins";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let front = batcher.front;
    let first = hold_with(&model, front, name, 1).await;
    let bare = tokio::spawn(predict(front, name, r#"{"instances":[[2],[3]]}"#));
    let named = tokio::spawn(predict(front, name, r#"{"instances":[{"id":[4]}]}"#));
    let json = tokio::spawn(infer_json(front, name, &[5]));
    let binary = tokio::spawn(infer_binary(front, name, &[6]));
    let grpc = tokio::spawn(infer_grpc(front, name, &[7]));
    let label = format!("model=\"{name}\"");
    until("all wait", async || batcher.metric("sluice_batcher_queue_rows", &label).await == 6.0).await;
    model.open_gate();
    assert_eq!(first.await.unwrap().status, 200);
    let bare = bare.await.unwrap();
    assert_eq!(
        (bare.status, bare.text().as_str()),
        (200, r#"{"predictions":[{"id":[2],"twice":[4]},{"id":[3],"twice":[6]}]}"#)
    );
    assert_eq!(named.await.unwrap().text(), r#"{"predictions":[{"id":[4],"twice":[8]}]}"#);
    assert_eq!(json.await.unwrap().output("twice"), [10]);
    assert_eq!(binary.await.unwrap().status, 200);
    assert_eq!(grpc_output(&grpc.await.unwrap(), "twice"), [14]);
    assert_eq!(model.client_calls().len(), 2, "{:?}", model.client_calls());

    // What does not fit the metadata stays V1, which this server does not have.
    let got = predict(front, name, r#"{"instances":["text"]}"#).await;
    let path = format!("/v1/models/{name}:predict");
    assert_eq!(
        (got.status, got.text()),
        (404, json!({"error": format!("nothing at {path}, says the model server")}).to_string())
    );
}

#[tokio::test]
async fn a_raw_binary_body_shares_a_call_as_a_row_of_the_only_input() {
    let name = "raw-binary";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let front = batcher.front;
    let first = hold_with(&model, front, name, 1).await;
    let mut raw = request("POST", &format!("/v2/models/{name}/infer"), 8i64.to_le_bytes().to_vec());
    raw.headers_mut().insert("inference-header-content-length", 0.into());
    let raw = tokio::spawn(send(front, raw));
    let json = tokio::spawn(infer_json(front, name, &[9]));
    let label = format!("model=\"{name}\"");
    until("both wait", async || batcher.metric("sluice_batcher_queue_rows", &label).await == 2.0).await;
    model.open_gate();
    assert_eq!(first.await.unwrap().status, 200);
    let raw = raw.await.unwrap();
    assert_eq!(raw.status, 200, "{}", raw.text());
    assert!(raw.body.ends_with(&[8i64.to_le_bytes(), 16i64.to_le_bytes()].concat()), "all outputs are raw");
    assert_eq!(json.await.unwrap().output("twice"), [18]);
    assert_eq!(model.client_calls().len(), 2);
}
