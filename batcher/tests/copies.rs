//! Tensors are not copied on their way through the batcher: what it writes to a socket are slices of what it read from
//! one. (Copies by the kernel, and the copy that joins a body of several reads, do not count here.)

#![allow(clippy::unwrap_used, reason = "these are tests")]

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;
use prost::Message;
use sluice_batcher::front::body::FrontBody;
use sluice_batcher::upstream::connection::Chunks;
use sluice_protocol::grpc::model_infer_request::InferInputTensor;
use sluice_protocol::grpc::{ModelInferRequest, decode_unary};
use sluice_protocol::{
    InferRequest, Limits, ResponsePart, Target, WireFormat, merge, parse_binary, parse_grpc, parse_response,
    split,
};

/// Bytes of one tensor: 150 000 FP32.
const TENSOR_BYTES: usize = 600_000;

fn binary(fill: u8) -> InferRequest {
    let header = format!(
        r#"{{"inputs":[{{"name":"x","shape":[1,150000],"datatype":"FP32","parameters":{{"binary_data_size":{TENSOR_BYTES}}}}}],"parameters":{{"binary_data_output":true}}}}"#
    );
    let body = Bytes::from([header.as_bytes(), &[fill; TENSOR_BYTES]].concat());
    let target = Target { model: "m".into(), version: None };
    parse_binary(&target, header.len(), body, &Limits::default()).unwrap()
}

fn grpc(fill: u8) -> InferRequest {
    let input = InferInputTensor {
        name: "x".into(),
        datatype: "FP32".into(),
        shape: vec![1, 150_000],
        ..Default::default()
    };
    let message = ModelInferRequest {
        model_name: "m".into(),
        inputs: vec![input],
        raw_input_contents: vec![Bytes::from(vec![fill; TENSOR_BYTES])],
        ..Default::default()
    };
    parse_grpc(message.encode_to_vec().into(), &Limits::default()).unwrap()
}

/// What a body hands to the socket, piece by piece.
async fn written(mut body: impl Body<Data = Bytes, Error: std::fmt::Debug> + Unpin) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    while let Some(frame) = body.frame().await {
        pieces.extend(frame.unwrap().into_data());
    }
    pieces
}

/// Bytes that lie in none of the buffers that were read: the copies.
fn copied(pieces: &[Bytes], read: &[&Bytes]) -> usize {
    let is_read = |piece: &&Bytes| {
        read.iter().any(|read| {
            let (read, piece) = (read.as_ptr_range(), piece.as_ptr_range());
            read.start <= piece.start && piece.end <= read.end
        })
    };
    pieces.iter().filter(|piece| !is_read(piece)).map(Bytes::len).sum()
}

/// An answer with the batch's own tensors as output, as it comes from the socket: one buffer.
fn answer(form: WireFormat, requests: usize) -> (Option<usize>, Bytes) {
    let raw = vec![7u8; requests * TENSOR_BYTES];
    match form {
        WireFormat::Grpc => {
            let output = sluice_protocol::grpc::model_infer_response::InferOutputTensor {
                name: "y".into(),
                datatype: "FP32".into(),
                shape: vec![requests as i64, 150_000],
                ..Default::default()
            };
            let message = sluice_protocol::grpc::ModelInferResponse {
                model_name: "m".into(),
                outputs: vec![output],
                raw_output_contents: vec![raw.into()],
                ..Default::default()
            };
            (None, message.encode_to_vec().into())
        }
        _ => {
            let head = format!(
                r#"{{"model_name":"m","outputs":[{{"name":"y","shape":[{requests},150000],"datatype":"FP32","parameters":{{"binary_data_size":{}}}}}]}}"#,
                raw.len()
            );
            (Some(head.len()), Bytes::from([head.as_bytes(), &raw].concat()))
        }
    }
}

#[tokio::test]
async fn no_tensor_byte_is_copied_on_the_way_there_or_back() {
    for (upstream, requests) in [
        (WireFormat::Binary, [binary(1), binary(2)]),
        (WireFormat::Grpc, [grpc(1), grpc(2)]),
        (WireFormat::Binary, [grpc(1), binary(2)]),
    ] {
        let requests: Vec<&InferRequest> = requests.iter().collect();
        let merged = merge(&requests, upstream).unwrap();
        let (form, rows, total) = (merged.format, merged.rows.clone(), merged.body_bytes);
        assert_eq!(form, upstream);
        let there = written(Chunks::new(merged.chunks)).await;
        let bodies: Vec<&Bytes> = requests.iter().map(|request| &request.body).collect();
        assert_eq!(there.iter().map(Bytes::len).sum::<usize>(), total);
        let there_bytes = copied(&there, &bodies);
        assert!(there_bytes < 1024, "{upstream:?}: {there_bytes} of {total} bytes were copied there");

        let (header_length, answer) = answer(upstream, requests.len());
        let response = parse_response(form, header_length, answer.clone()).unwrap();
        let mut back = Vec::new();
        for share in split(&response, &requests, &rows).unwrap() {
            let ResponsePart { chunks, body_bytes, .. } = share.unwrap();
            assert!(body_bytes > TENSOR_BYTES);
            back.extend(written(FrontBody::pieces(chunks)).await);
        }
        let back_bytes = copied(&back, &[&answer]);
        assert!(back_bytes < 1024, "{upstream:?}: {back_bytes} bytes were copied back");
        println!("{upstream:?}: {there_bytes} of {total} bytes copied there, {back_bytes} back");
    }
}

#[tokio::test]
async fn a_grpc_message_is_a_slice_of_what_was_read() {
    let message = Bytes::from([&[0u8, 0, 0, 0, 4][..], b"abcd"].concat());
    let decoded = decode_unary(message.clone(), 1 << 10).unwrap();
    assert_eq!(copied(&[decoded], &[&message]), 0);
}

#[tokio::test]
async fn small_batches_are_written_as_one_piece() {
    let pieces: Vec<Bytes> = (0..20).map(|fill| Bytes::from(vec![fill; 600])).collect();
    assert_eq!(written(Chunks::new(pieces.clone())).await, [Bytes::from(pieces.concat())]);
    let large: Vec<Bytes> = (0..30).map(|fill| Bytes::from(vec![fill; 600])).collect();
    assert_eq!(written(Chunks::new(large)).await.len(), 30);
}
