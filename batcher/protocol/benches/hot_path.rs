//! The hot path of one batch: parse 16 requests, merge them, read the response, split it. `hot_path CASE` runs one case
//! twice; the second run is the measured one. `./instructions` counts its instructions under callgrind.

#![allow(clippy::unwrap_used, reason = "a benchmark stops where its own input is wrong")]

use std::hint::black_box;

use bytes::Bytes;
use prost::Message;
use sluice_protocol::grpc::model_infer_request::InferInputTensor;
use sluice_protocol::grpc::model_infer_response::InferOutputTensor;
use sluice_protocol::grpc::{ModelInferRequest, ModelInferResponse};
use sluice_protocol::{
    Address, InferRequest, Limits, Target, WireFormat, merge, parse_binary, parse_grpc, parse_json,
    parse_response, parse_v1, split,
};

const REQUESTS: usize = 16;
/// Numbers of FP32 elements in a row of 64 bytes and in one of 600 KB.
const SMALL: usize = 16;
const LARGE: usize = 150_000;

/// Bodies of a batch's requests and of its response.
struct Case {
    requests: Vec<(WireFormat, usize, Bytes)>,
    upstream: WireFormat,
    answer_format: WireFormat,
    answer: (Option<usize>, Bytes),
}

fn main() {
    let Some(name) = std::env::args().skip(1).find(|argument| !argument.starts_with("--")) else {
        // `cargo test --benches` and the like only check that every case runs.
        CASES.iter().for_each(|name| assert!(sluice_hot_path_measured(&case(name)) > 0));
        return;
    };
    let case = case(&name);
    // What is allocated and initialised once must not be counted.
    black_box(run(&case));
    black_box(sluice_hot_path_measured(&case));
}

const CASES: [&str; 6] = ["json", "v1", "binary", "grpc", "binary-600k", "grpc-600k"];

fn case(name: &str) -> Case {
    let (format, upstream, answer_format, columns) = match name {
        "json" => (WireFormat::Json, WireFormat::Binary, WireFormat::Json, SMALL),
        "v1" => (WireFormat::V1, WireFormat::Binary, WireFormat::V1, SMALL),
        "binary" => (WireFormat::Binary, WireFormat::Binary, WireFormat::Binary, SMALL),
        "grpc" => (WireFormat::Grpc, WireFormat::Grpc, WireFormat::Grpc, SMALL),
        "binary-600k" => (WireFormat::Binary, WireFormat::Binary, WireFormat::Binary, LARGE),
        "grpc-600k" => (WireFormat::Grpc, WireFormat::Grpc, WireFormat::Grpc, LARGE),
        other => panic!("case {other:?}: one of {CASES:?} is wanted"),
    };
    Case {
        requests: (0..REQUESTS).map(|number| request(format, number, columns)).collect(),
        upstream,
        answer_format,
        answer: answer(answer_format, columns),
    }
}

/// The function that callgrind counts, by its name, so it must not be inlined.
#[inline(never)]
fn sluice_hot_path_measured(case: &Case) -> usize {
    black_box(run(black_box(case)))
}

/// Runs the path once and returns the size of all responses.
fn run(case: &Case) -> usize {
    let limits = Limits::default();
    let target = Target { model: "bert".to_owned(), version: None };
    let parse = |(format, header_length, body): &(WireFormat, usize, Bytes)| match format {
        WireFormat::Json => parse_json(&target, body.clone(), &limits),
        WireFormat::Binary => parse_binary(&target, *header_length, body.clone(), &limits),
        WireFormat::Grpc => parse_grpc(body.clone(), &limits),
        WireFormat::V1 => {
            parse_v1(&Address { target: target.clone(), label: None }, body.clone(), &limits, None)
        }
    };
    let requests: Vec<InferRequest> = case.requests.iter().map(|body| parse(body).unwrap()).collect();
    let requests: Vec<&InferRequest> = requests.iter().collect();
    let merged = merge(&requests, case.upstream).unwrap();
    assert_eq!(merged.format, case.answer_format);
    let (header_length, answer) = &case.answer;
    let response = parse_response(merged.format, *header_length, answer.clone()).unwrap();
    let answers = split(&response, &requests, &merged.rows).unwrap();
    answers.into_iter().map(|answer| answer.unwrap().body_bytes).sum()
}

fn numbers(count: usize) -> String {
    let numbers: Vec<String> = (0..count).map(|at| format!("{:.4}", at as f32 * 0.37 - 3.0)).collect();
    numbers.join(",")
}

fn raw(count: usize) -> Vec<u8> {
    (0..count).flat_map(|at| (at as f32).to_le_bytes()).collect()
}

fn request(format: WireFormat, number: usize, columns: usize) -> (WireFormat, usize, Bytes) {
    let head = format!(r#"{{"name":"input_0","shape":[1,{columns}],"datatype":"FP32","#);
    let (header_length, body) = match format {
        WireFormat::Json => {
            let data = numbers(columns);
            (0, format!(r#"{{"id":"{number}","inputs":[{head}"data":[{data}]}}]}}"#).into_bytes())
        }
        WireFormat::V1 => (0, format!(r#"{{"instances":[[{}]]}}"#, numbers(columns)).into_bytes()),
        WireFormat::Binary => {
            let size = columns * 4;
            let header = format!(
                r#"{{"id":"{number}","parameters":{{"binary_data_output":true}},"inputs":[{head}"parameters":{{"binary_data_size":{size}}}}}]}}"#
            );
            (header.len(), [header.as_bytes(), &raw(columns)].concat())
        }
        WireFormat::Grpc => {
            let input = InferInputTensor {
                name: "input_0".into(),
                datatype: "FP32".into(),
                shape: vec![1, columns as i64],
                ..Default::default()
            };
            let message = ModelInferRequest {
                model_name: "bert".into(),
                id: number.to_string(),
                inputs: vec![input],
                raw_input_contents: vec![raw(columns).into()],
                ..Default::default()
            };
            (0, message.encode_to_vec())
        }
    };
    (format, header_length, body.into())
}

fn answer(format: WireFormat, columns: usize) -> (Option<usize>, Bytes) {
    let elements = REQUESTS * columns;
    let head = format!(r#"{{"name":"output_0","shape":[{REQUESTS},{columns}],"datatype":"FP32","#);
    match format {
        WireFormat::Json => {
            let data = numbers(elements);
            (None, format!(r#"{{"model_name":"bert","outputs":[{head}"data":[{data}]}}]}}"#).into())
        }
        WireFormat::V1 => {
            let row = format!("[{}]", numbers(columns));
            (None, format!(r#"{{"predictions":[{}]}}"#, vec![row; REQUESTS].join(",")).into())
        }
        WireFormat::Binary => {
            let size = elements * 4;
            let header = format!(
                r#"{{"model_name":"bert","outputs":[{head}"parameters":{{"binary_data_size":{size}}}}}]}}"#
            );
            (Some(header.len()), [header.as_bytes(), &raw(elements)].concat().into())
        }
        WireFormat::Grpc => {
            let output = InferOutputTensor {
                name: "output_0".into(),
                datatype: "FP32".into(),
                shape: vec![REQUESTS as i64, columns as i64],
                ..Default::default()
            };
            let message = ModelInferResponse {
                model_name: "bert".into(),
                outputs: vec![output],
                raw_output_contents: vec![raw(elements).into()],
                ..Default::default()
            };
            (None, message.encode_to_vec().into())
        }
    }
}
