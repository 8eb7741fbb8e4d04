//! Requests that the batcher does not handle itself pass through unchanged.

use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::Value;

use crate::client::{get, open, request, send};
use crate::model::{Behaviour, Model};
use crate::start::{settings, sidecar};

#[tokio::test]
async fn bodies_and_end_to_end_headers_arrive_unchanged_both_ways() {
    let name = "echo";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let body: Vec<u8> = (0..200_000_u32).map(|byte| (byte * 31 % 251) as u8).collect();
    for _ in 0..3 {
        let mut request = request("PUT", "/echo?a=1&b=%20", body.clone());
        let headers = request.headers_mut();
        headers.insert("authorization", "Bearer t".parse().unwrap());
        headers.append("x-many", "one".parse().unwrap());
        headers.append("x-many", "two".parse().unwrap());
        headers.insert("connection", "x-secret".parse().unwrap());
        headers.insert("x-secret", "1".parse().unwrap());
        let got = send(batcher.front, request).await;
        assert_eq!(got.status, 418);
        assert_eq!(got.body, body);
        assert_eq!(got.headers["x-method"], "PUT");
        assert_eq!(got.headers["x-uri"], "/echo?a=1&b=%20");
        assert_eq!(got.headers["x-got-authorization"], "Bearer t");
        assert_eq!(got.headers["x-got-host"], "test");
        assert_eq!(got.headers.get_all("x-got-x-many").iter().count(), 2);
        assert!(!got.headers.contains_key("x-got-x-secret"), "named by Connection: for one hop only");
    }
}

#[tokio::test]
async fn streams_are_not_buffered() {
    let name = "stream";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    model.close_gate();
    let mut response = open(batcher.front, request("GET", "/stream", "")).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    // The second event cannot have been sent yet.
    let first = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, Bytes::from_static(b"data: one\n\n"));
    model.open_gate();
    let rest = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(rest, Bytes::from_static(b"data: two\n\n"));
}

#[tokio::test]
async fn metadata_is_the_model_servers_own() {
    let name = "meta";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let through = get(batcher.front, &format!("/v2/models/{name}")).await;
    let direct = get(model.address, &format!("/v2/models/{name}")).await;
    assert_eq!(through.body, direct.body);
    let metadata: Value = serde_json::from_slice(&through.body).unwrap();
    assert_eq!(metadata["name"], name);
}

#[tokio::test]
async fn other_grpc_methods_reach_the_model_server_over_http2() {
    let name = "grpc-pass";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    // The stub's echo answers whatever comes; what matters is that it came, over h2c, and its answer went back.
    let asked = sluice_protocol::grpc::ModelMetadataRequest { name: name.into(), ..Default::default() };
    let got = crate::client::grpc(batcher.front, "/echo", &asked).await;
    assert_eq!(got.status, 418);
    assert_eq!(got.headers["x-got-te"], "trailers");
    let message = sluice_protocol::grpc::decode_unary(got.body, 1000).unwrap();
    assert_eq!(prost::Message::encode_to_vec(&asked), message);
}
