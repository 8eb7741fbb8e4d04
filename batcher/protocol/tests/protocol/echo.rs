//! A simulated model server that answers with its inputs, in the wire format of the request.

use bytes::Bytes;
use prost::Message;
use sluice_protocol::grpc::infer_parameter::ParameterChoice;
use sluice_protocol::grpc::model_infer_response::InferOutputTensor;
use sluice_protocol::grpc::{InferParameter, ModelInferRequest, ModelInferResponse, decode_unary};
use sluice_protocol::{
    InferResponse, Limits, Merged, TensorData, WireFormat, parse_binary, parse_json, parse_response,
};

use crate::client::target;

/// Returns the response to a batch, as the batcher would read it. Output `x` is input `x`.
pub(crate) fn echo(merged: &Merged) -> InferResponse {
    let body = Bytes::from(merged.chunks.concat());
    assert_eq!(body.len(), merged.body_bytes);
    let alone = merged.rows.requests.len() == 1;
    let (header_length, answer) = match merged.format {
        WireFormat::Json => {
            assert_eq!((merged.header_length, merged.content_type), (None, "application/json"));
            (None, rest_answer(None, body, alone))
        }
        WireFormat::Binary => {
            assert_eq!(merged.content_type, "application/octet-stream");
            let (length, answer) = split_head(rest_answer(merged.header_length, body, alone));
            (Some(length), answer)
        }
        WireFormat::Grpc => {
            assert_eq!((merged.header_length, merged.content_type), (None, "application/grpc"));
            (None, grpc_answer(decode_unary(body, usize::MAX).unwrap(), alone))
        }
        WireFormat::V1 => unreachable!("a V1 answer has no tensors"),
    };
    parse_response(merged.format, header_length, answer).unwrap()
}

/// Returns a JSON header, a newline (a legal blank) that marks its end, and raw tensors.
fn rest_answer(header_length: Option<usize>, body: Bytes, alone: bool) -> Bytes {
    // A batch may be larger than any request.
    let limits = Limits { body_bytes: 1 << 40, elements: 1 << 40, ..Limits::default() };
    let request = match header_length {
        None => parse_json(&target(), body, &limits),
        Some(length) => parse_binary(&target(), length, body, &limits),
    }
    .unwrap();
    assert!(alone || request.id.is_none(), "client ids are not forwarded in company");
    assert_eq!(request.binary_data_output, header_length.is_some());
    let mut raw = Vec::new();
    let mut outputs = Vec::new();
    for input in &request.inputs {
        let data = match &input.data {
            TensorData::Json { text, .. } => format!(r#""data":{}"#, str::from_utf8(text).unwrap()),
            TensorData::Raw(bytes) => {
                raw.extend_from_slice(bytes);
                format!(r#""parameters":{{"binary_data_size":{}}}"#, bytes.len())
            }
        };
        let name = serde_json::Value::from(&*input.name);
        let (shape, datatype) = (&input.shape, input.datatype.name());
        outputs.push(format!(r#"{{"name":{name},"shape":{shape:?},"datatype":"{datatype}",{data}}}"#));
    }
    let head = format!(
        r#"{{"model_name":"m","model_version":"1","parameters":{{"served":"echo"}},"outputs":[{}]}}"#,
        outputs.join(",")
    );
    Bytes::from([head.as_bytes(), b"\n", &raw].concat())
}

fn split_head(answer: Bytes) -> (usize, Bytes) {
    (answer.iter().position(|&byte| byte == b'\n').unwrap() + 1, answer)
}

fn grpc_answer(message: Bytes, alone: bool) -> Bytes {
    let request = ModelInferRequest::decode(message).unwrap();
    assert!(alone || request.id.is_empty(), "client ids are not forwarded in company");
    assert_eq!(request.raw_input_contents.len(), request.inputs.len());
    let outputs = request.inputs.into_iter().map(|input| InferOutputTensor {
        name: input.name,
        datatype: input.datatype,
        shape: input.shape,
        ..Default::default()
    });
    let served = InferParameter { parameter_choice: Some(ParameterChoice::StringParam("echo".to_owned())) };
    let response = ModelInferResponse {
        model_name: request.model_name,
        model_version: "1".into(),
        parameters: [("served".to_owned(), served)].into(),
        outputs: outputs.collect(),
        raw_output_contents: request.raw_input_contents,
        ..Default::default()
    };
    response.encode_to_vec().into()
}
