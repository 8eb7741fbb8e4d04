//! Limits of a batch: rows, bytes, tokens; sizes and padding; for all models or for one.

use sluice_batcher::settings::{ModelOverrides, Padding};
use sluice_batcher::with_settings;

use sluice_protocol::grpc::{InferTensorContents, ModelInferRequest, path};

use crate::client::{Got, grpc, infer_binary, infer_json, infer_message, json_body};
use crate::model::{Behaviour, Call, Model};
use crate::start::{Batcher, settings, sidecar, until};

/// Sends one request that holds the model server, and `requests` while it does; returns their results and the calls
/// that they were in.
async fn together(
    model: &Model,
    batcher: &Batcher,
    name: &'static str,
    requests: &[&[i64]],
) -> (Vec<Got>, Vec<Call>) {
    let front = batcher.front;
    model.close_gate();
    let before = model.client_calls().len();
    let first = tokio::spawn(infer_json(front, name, &[1]));
    until("the first is at the model", async || model.at_gate() == 1).await;
    let label = format!("model=\"{name}\"");
    let mut rows = 0;
    let mut waiting = Vec::new();
    for ids in requests {
        let ids = ids.to_vec();
        rows += ids.len();
        waiting.push(tokio::spawn(async move { infer_json(front, name, &ids).await }));
        until("it waits", async || batcher.metric("sluice_batcher_queue_rows", &label).await == rows as f64)
            .await;
    }
    model.open_gate();
    first.await.unwrap();
    let mut answers = Vec::new();
    for request in waiting {
        answers.push(request.await.unwrap());
    }
    (answers, model.client_calls().split_off(before + 1))
}

fn sizes(calls: &[Call]) -> Vec<usize> {
    calls.iter().map(|call| call.ids.len()).collect()
}

#[tokio::test]
async fn a_batch_keeps_to_its_tokens_and_a_larger_request_goes_alone() {
    let name = "tokens";
    let model = Model::start(name, Behaviour::default()).await;
    // The test model's input has one element per row, an integer.
    let batcher = sidecar(&model, with_settings!(settings(name), batching.max_batch_tokens = Some(3))).await;
    let (answers, calls) = together(&model, &batcher, name, &[&[2, 3], &[4], &[5, 6, 7, 8, 9], &[10]]).await;
    assert!(answers.iter().all(|got| got.status == 200));
    assert_eq!(sizes(&calls), [3, 5, 1]);
}

#[tokio::test]
async fn a_batch_keeps_to_its_bytes() {
    let name = "bytes";
    let model = Model::start(name, Behaviour::default()).await;
    let two = 2 * json_body(&[2]).len() as u64;
    let batcher = sidecar(&model, with_settings!(settings(name), batching.max_batch_bytes = Some(two))).await;
    let (answers, calls) = together(&model, &batcher, name, &[&[2], &[3], &[4], &[5], &[6]]).await;
    assert!(answers.iter().all(|got| got.status == 200));
    assert_eq!(sizes(&calls), [2, 2, 1]);
}

#[tokio::test]
async fn a_model_has_settings_of_its_own_and_is_warmed_by_them() {
    let name = "own";
    let model = Model::start(name, Behaviour::default()).await;
    let own = ModelOverrides { max_batch_rows: Some(2), ..ModelOverrides::default() };
    let other = ModelOverrides { max_batch_rows: Some(1), ..ModelOverrides::default() };
    let overrides = [(name.to_owned(), own), ("other".to_owned(), other)].into();
    let batcher = sidecar(&model, with_settings!(settings(name), batching.model_settings = overrides)).await;
    let largest = model.calls().iter().map(|call| call.ids.len()).max();
    assert_eq!(largest, Some(2), "no other size is sent, so no other is warmed");
    let (_, calls) = together(&model, &batcher, name, &[&[2], &[3], &[4]]).await;
    assert_eq!(sizes(&calls), [2, 1]);
    let label = format!("model=\"{name}\"");
    assert_eq!(batcher.metric("sluice_batcher_batch_rows_limit", &label).await, 2.0);
}

#[tokio::test]
async fn a_padded_batch_has_an_allowed_size_and_nobody_sees_the_filling() {
    let name = "padded";
    let model = Model::start(name, Behaviour { alpha_us: 20_000.into(), ..Behaviour::default() }).await;
    let padded = with_settings!(
        settings(name),
        batching.allowed_batch_rows = vec![4, 8],
        batching.padding = Padding::Repeat
    );
    let batcher = sidecar(&model, padded).await;
    let (answers, calls) = together(&model, &batcher, name, &[&[2], &[3, 4], &[5, 6, 7]]).await;
    let outputs: Vec<Vec<i64>> = answers.iter().map(|got| got.output("twice")).collect();
    assert_eq!(outputs, [vec![4], vec![6, 8], vec![10, 12, 14]]);
    assert!(model.calls().iter().all(|call| [4, 8].contains(&call.ids.len())), "warm-up too");
    let sent: Vec<&[i64]> = calls.iter().map(|call| &call.ids[..]).collect();
    assert_eq!(sent, [[2, 3, 4, 5, 6, 7, 7, 7]]);
    assert_eq!(infer_binary(batcher.front, name, &[9]).await.status, 200);
    assert_eq!(model.client_calls().last().map(|call| &call.ids[..]), Some(&[9, 9, 9, 9][..]));
    let label = format!("model=\"{name}\"");
    assert_eq!(batcher.metric("sluice_batcher_padding_rows_total", &label).await, 3.0 + 2.0 + 3.0);
}

#[tokio::test]
async fn a_bad_row_in_a_padded_batch_fails_alone() {
    let name = "padded-poison";
    let model = Model::start(name, Behaviour { poison: Some(666), ..Behaviour::default() }).await;
    let padded = with_settings!(
        settings(name),
        batching.allowed_batch_rows = vec![4, 8],
        batching.padding = Padding::Repeat
    );
    let batcher = sidecar(&model, padded).await;
    let (answers, calls) = together(&model, &batcher, name, &[&[2], &[3], &[4], &[5], &[666]]).await;
    let statuses: Vec<u16> = answers.iter().map(|got| got.status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 400]);
    assert!(calls.iter().all(|call| [4, 8].contains(&call.ids.len())), "{calls:?}");
}

/// Makes a request of `count` zeros, each of which has one byte on the wire and 8 once it is decoded.
fn zeros(model: &str, count: usize) -> ModelInferRequest {
    let mut message = infer_message(model, &[0]);
    message.raw_input_contents.clear();
    message.inputs[0].shape = vec![count as i64, 1];
    message.inputs[0].contents =
        Some(InferTensorContents { int64_contents: vec![0; count], ..InferTensorContents::default() });
    message
}

#[tokio::test]
async fn typed_elements_count_as_the_memory_that_they_take_once_read() {
    let name = "typed";
    let model = Model::start(name, Behaviour::default()).await;
    let limits =
        with_settings!(settings(name), limits.max_body_bytes = 1 << 20, limits.queue_bytes = 600 << 10);
    let batcher = sidecar(&model, limits).await;
    let ask = async |count| grpc(batcher.front, path::MODEL_INFER, &zeros(name, count)).await;
    assert_eq!(ask(10).await.grpc_status(), 0);
    // 140 KiB are read to 1.1 MiB.
    let beyond_the_body = ask(140 << 10).await;
    assert_eq!(beyond_the_body.grpc_status(), 8);
    let said = |got: &Got| got.headers["grpc-message"].to_str().unwrap().to_owned();
    assert!(said(&beyond_the_body).contains("maxBodyBytes"), "{}", said(&beyond_the_body));
    // 80 KiB are read to 640 KiB, and all requests together have 600.
    let beyond_all = ask(80 << 10).await;
    assert_eq!(beyond_all.grpc_status(), 8);
    assert!(said(&beyond_all).contains("queueBytes"), "{}", said(&beyond_all));
    // What they took is given back.
    assert_eq!(ask(20 << 10).await.grpc_status(), 0);
}
