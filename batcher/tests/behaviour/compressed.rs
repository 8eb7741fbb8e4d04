//! Compressed requests are decoded, within the limits for their decoded size.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use http::Request;
use http_body_util::Full;
use prost::Message;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use sluice_batcher::with_settings;
use sluice_protocol::grpc;

use crate::client::{Got, grpc_framed, grpc_output, infer_json, infer_message, json_body, request, send};
use crate::model::{Behaviour, Model};
use crate::start::{settings, sidecar};

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn deflate(plain: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    compress_to_vec(plain, CompressionLevel::Fastest)
}

fn coded(model: &str, coding: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let mut request = request("POST", &format!("/v2/models/{model}/infer"), body);
    request.headers_mut().insert("content-encoding", coding.parse().unwrap());
    request
}

async fn grpc_coded(front: std::net::SocketAddr, coding: &str, message: &[u8]) -> Got {
    let mut body = vec![1];
    body.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    body.extend_from_slice(message);
    grpc_framed(front, grpc::path::MODEL_INFER, body, &[("grpc-encoding", coding)]).await
}

#[tokio::test]
async fn compressed_requests_are_decoded_and_merged_like_others() {
    let name = "coded";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let front = batcher.front;
    for (id, coding, body) in [
        (1, "gzip", gzip(json_body(&[1]).as_bytes())),
        (2, "deflate", deflate(json_body(&[2]).as_bytes())),
        (3, "zstd", zstd(json_body(&[3]).as_bytes())),
        (4, "identity", json_body(&[4]).into()),
    ] {
        let got = send(front, coded(name, coding, body)).await;
        assert_eq!(got.output("twice"), [2 * id], "{coding}: {}", got.text());
    }
    for (id, coding) in [(5, "gzip"), (6, "deflate")] {
        let plain = infer_message(name, &[id]).encode_to_vec();
        let message = if coding == "gzip" { gzip(&plain) } else { deflate(&plain) };
        assert_eq!(grpc_output(&grpc_coded(front, coding, &message).await, "twice"), [2 * id]);
    }
    // What is no valid request goes to the model server as it was meant, no longer as it was coded.
    let got = send(front, coded(name, "gzip", gzip(b"not json"))).await;
    assert_eq!((got.status, got.text().contains("says the model server")), (400, true), "{}", got.text());
}

#[tokio::test]
async fn a_small_body_that_stands_for_a_huge_one_is_413() {
    let name = "bomb";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, with_settings!(settings(name), limits.max_body_bytes = 1 << 20)).await;
    let zeros = vec![b'0'; 64 << 20];
    for (coding, body) in [("gzip", gzip(&zeros)), ("deflate", deflate(&zeros)), ("zstd", zstd(&zeros))] {
        assert!(body.len() < 1 << 18, "{coding}: a bomb is small: {}", body.len());
        let got = send(batcher.front, coded(name, coding, body)).await;
        assert_eq!(got.status, 413, "{coding}: {}", got.text());
        assert!(got.text().contains("maxBodyBytes"), "{}", got.text());
    }
    let got = grpc_coded(batcher.front, "gzip", &gzip(&zeros)).await;
    assert_eq!(got.grpc_status(), 8, "{got:?}");
    // A zstd frame of a few bytes that wants 2 GiB of memory for its window.
    let got =
        send(batcher.front, coded(name, "zstd", [0x28, 0xb5, 0x2f, 0xfd, 0, 0xa8, 1, 0, 0].to_vec())).await;
    assert_eq!(got.status, 400, "{}", got.text());
    assert!(got.text().contains("window"), "{}", got.text());
    assert_eq!(infer_json(batcher.front, name, &[7]).await.output("twice"), [14]);
    assert_eq!(model.client_calls().len(), 1);
}

#[tokio::test]
async fn members_without_content_are_read_as_far_as_they_may_be_many() {
    let name = "members";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let body = json_body(&[1]);
    let (first, second) = body.split_at(body.len() / 2);
    let several = [gzip(first.as_bytes()), gzip(b"").repeat(1000), gzip(second.as_bytes())].concat();
    let got = send(batcher.front, coded(name, "gzip", several)).await;
    assert_eq!(got.output("twice"), [2], "{}", got.text());
    let got = send(batcher.front, coded(name, "gzip", gzip(b"").repeat(20_000))).await;
    assert_eq!(got.status, 400);
    assert!(got.text().contains("members"), "{}", got.text());
    assert_eq!(infer_json(batcher.front, name, &[7]).await.output("twice"), [14]);
}

#[tokio::test]
async fn what_cannot_be_decoded_is_refused_with_what_can() {
    let name = "codings";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    for coding in ["br", "gzip, gzip", "compress"] {
        let got = send(batcher.front, coded(name, coding, "x")).await;
        assert_eq!(got.status, 415, "{coding}");
        assert_eq!(got.headers["accept-encoding"], "gzip, deflate, zstd");
    }
    for coding in ["gzip", "deflate", "zstd"] {
        let got = send(batcher.front, coded(name, coding, "this is neither")).await;
        assert_eq!(got.status, 400, "{coding}: {}", got.text());
    }
    let cut = gzip(json_body(&[1]).as_bytes());
    assert_eq!(send(batcher.front, coded(name, "gzip", cut[..cut.len() - 4].to_vec())).await.status, 400);
    let got = grpc_coded(batcher.front, "snappy", b"x").await;
    assert_eq!(got.grpc_status(), 12);
    assert_eq!(got.headers["grpc-accept-encoding"], "identity,gzip,deflate");
    assert!(model.client_calls().is_empty());
}
