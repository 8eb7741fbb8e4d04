//! gRPC requests that are not merged: the model server gets a call that its gRPC library accepts, whatever the client's
//! connection was like.

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::Full;
use prost::Message;
use sluice_batcher::with_settings;
use sluice_protocol::grpc::infer_parameter::ParameterChoice;
use sluice_protocol::grpc::model_infer_request::InferRequestedOutputTensor;
use sluice_protocol::grpc::{InferParameter, ModelInferRequest, frame_prefix, path};

use crate::client::{Got, grpc, grpc_framed, grpc_output, infer_grpc, infer_message, send, send_http2};
use crate::model::{Behaviour, Model};
use crate::start::{Batcher, settings, sidecar};

/// A sidecar of a server that speaks both; batches go over REST, lone gRPC requests over gRPC.
async fn both(name: &'static str) -> (Model, Batcher) {
    let model = Model::start(name, Behaviour::default()).await;
    let settings = with_settings!(settings(name), servers.upstream_grpc = Some(model.upstream()));
    let batcher = sidecar(&model, settings).await;
    (model, batcher)
}

fn with_parameter(model: &str, name: &str, choice: ParameterChoice) -> ModelInferRequest {
    let mut message = infer_message(model, &[21]);
    message.parameters.insert(name.to_owned(), InferParameter { parameter_choice: Some(choice) });
    message
}

/// A request of each form that is never merged.
fn lone_forms(model: &str) -> Vec<(&'static str, ModelInferRequest)> {
    let mut scalar = infer_message(model, &[21]);
    scalar.inputs[0].shape.clear();
    let mut twice = infer_message(model, &[21]);
    twice.outputs = vec![InferRequestedOutputTensor { name: "twice".into(), ..Default::default() }; 2];
    let mut unequal = infer_message(model, &[21]);
    let mut other = unequal.inputs[0].clone();
    (other.name, other.shape) = ("n".into(), vec![2, 1]);
    unequal.inputs.push(other);
    unequal.raw_input_contents.push(vec![0; 16].into());
    vec![
        ("a sequence", with_parameter(model, "sequence_id", ParameterChoice::Int64Param(7))),
        ("a named sequence", with_parameter(model, "sequence_id", ParameterChoice::StringParam("s".into()))),
        ("sampling", with_parameter(model, "temperature", ParameterChoice::DoubleParam(0.5))),
        ("a seed", with_parameter(model, "seed", ParameterChoice::Int64Param(1))),
        ("of the server's own", with_parameter(model, "triton_x", ParameterChoice::BoolParam(true))),
        ("a scalar", scalar),
        ("an output twice", twice),
        ("unequal rows", unequal),
    ]
}

fn framed(message: &ModelInferRequest) -> Vec<u8> {
    let encoded = message.encode_to_vec();
    [&frame_prefix(encoded.len()).unwrap()[..], &encoded].concat()
}

#[tokio::test]
async fn every_form_that_goes_alone_is_a_call_that_a_strict_server_takes() {
    let name = "grpc-lone-forms";
    let (model, batcher) = both(name).await;
    for (form, message) in lone_forms(name) {
        let got = grpc(batcher.front, path::MODEL_INFER, &message).await;
        assert_eq!(grpc_output(&got, "twice"), [42], "{form}");
        assert_eq!(model.client_calls().last().unwrap().form, "grpc", "{form}: as it came");
        assert_eq!(got.headers["x-client"], "test", "{form}: the client's metadata goes with it");
    }
}

#[tokio::test]
async fn the_same_where_the_server_speaks_grpc_only_and_for_its_batches() {
    let name = "grpc-lone-only";
    let model = Model::start(name, Behaviour { grpc_only: true, ..Behaviour::default() }).await;
    let batcher = sidecar(&model, settings(name)).await;
    for (form, message) in lone_forms(name) {
        let got = grpc(batcher.front, path::MODEL_INFER, &message).await;
        assert_eq!(grpc_output(&got, "twice"), [42], "{form}");
    }
    assert_eq!(grpc_output(&infer_grpc(batcher.front, name, &[5]).await, "twice"), [10]);
    let calls = model.calls();
    assert!(calls.iter().any(crate::model::Call::is_warmup), "warm-up calls are taken too");
}

/// A call without `te`, as clients send it that stand behind a proxy which drops it.
async fn grpc_without_te(batcher: &Batcher, method: &str, body: Vec<u8>) -> Got {
    let request = Request::post(method).header("content-type", "application/grpc");
    send_http2(batcher.front, request.body(Full::new(Bytes::from(body))).unwrap()).await
}

#[tokio::test]
async fn te_is_written_for_each_call_whether_the_client_has_sent_it_or_not() {
    let name = "grpc-te";
    let (model, batcher) = both(name).await;
    let message = with_parameter(name, "sequence_id", ParameterChoice::Int64Param(7));
    let got = grpc_without_te(&batcher, path::MODEL_INFER, framed(&message)).await;
    assert_eq!(grpc_output(&got, "twice"), [42]);
    assert_eq!(model.client_calls().len(), 1);
    // Also of what passes through: metadata, and a service of the server's own.
    let asked = sluice_protocol::grpc::ModelMetadataRequest { name: name.into(), ..Default::default() };
    let encoded = asked.encode_to_vec();
    let body = [&frame_prefix(encoded.len()).unwrap()[..], &encoded].concat();
    let got = grpc_without_te(&batcher, path::MODEL_METADATA, body.clone()).await;
    assert_eq!(got.grpc_status(), 0, "{got:?}");
    let got = grpc_without_te(&batcher, "/echo", body).await;
    assert_eq!(got.headers["x-got-te"], "trailers");
}

#[tokio::test]
async fn a_call_over_http1_is_one_over_http2_for_the_server() {
    let name = "grpc-http1";
    let (model, batcher) = both(name).await;
    let message = with_parameter(name, "sequence_id", ParameterChoice::Int64Param(7));
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", "a.example"),
        ("content-type", "application/grpc"),
        ("te", "gzip, trailers;q=0.5"),
        ("connection", "te, keep-alive, x-secret"),
        ("connection", "x-other"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("x-secret", "1"),
        ("x-other", "1"),
    ] {
        headers.append(name, value.parse().unwrap());
    }
    let call = |method: &str| {
        let mut request = Request::post(method).body(Full::new(Bytes::from(framed(&message)))).unwrap();
        *request.headers_mut() = headers.clone();
        request
    };
    let got = send(batcher.front, call(path::MODEL_INFER)).await;
    assert_eq!(got.status, 200, "{got:?}");
    assert_eq!(model.client_calls().len(), 1, "{got:?}");
    let got = send(batcher.front, call("/echo")).await;
    let received: Vec<&str> =
        got.headers.keys().filter_map(|name| name.as_str().strip_prefix("x-got-")).collect();
    for hop in ["connection", "keep-alive", "proxy-connection", "x-secret", "x-other", "host"] {
        assert!(!received.contains(&hop), "{hop}: {got:?}");
    }
    assert_eq!(got.headers["x-got-te"], "trailers");
}

#[tokio::test]
async fn only_grpc_is_taken_for_grpc() {
    let name = "grpc-types";
    let (model, batcher) = both(name).await;
    let sequence = framed(&with_parameter(name, "sequence_id", ParameterChoice::Int64Param(7)));
    let batch = framed(&infer_message(name, &[21]));
    for content_type in
        ["application/grpc", "application/grpc+proto", "application/grpc;v=1", "Application/GRPC+Proto ; a=b"]
    {
        for body in [&sequence, &batch] {
            let headers = [("content-type", content_type)];
            let got = grpc_framed(batcher.front, path::MODEL_INFER, body.clone(), &headers).await;
            assert_eq!(grpc_output(&got, "twice"), [42], "{content_type}");
        }
    }
    let calls = model.client_calls().len();
    for content_type in [
        "application/grpcfoo",
        "application/grpc-web",
        "application/grpc-web+proto",
        "application/grpc-web-text",
        "application/grpc-web-text+proto",
        "APPLICATION/gRPC-Web",
        "application/grpc+",
    ] {
        for method in [path::MODEL_INFER, path::SERVER_LIVE, path::MODEL_METADATA, "/echo"] {
            let headers = [("content-type", content_type)];
            let got = grpc_framed(batcher.front, method, batch.clone(), &headers).await;
            assert_eq!(got.status, 415, "{content_type} {method}: {got:?}");
            assert!(got.text().contains("application/grpc"), "it says what is read: {}", got.text());
            assert!(!got.headers.contains_key("grpc-status"), "{got:?}");
        }
    }
    assert_eq!(model.client_calls().len(), calls, "nothing has reached the model");
    // Another coding of messages is the server's to judge.
    let got = grpc_framed(
        batcher.front,
        path::MODEL_INFER,
        batch.clone(),
        &[("content-type", "application/grpc+json")],
    )
    .await;
    assert_eq!(grpc_output(&got, "twice"), [42], "it went as it came");
    assert_eq!(model.client_calls().last().unwrap().form, "grpc");
}
