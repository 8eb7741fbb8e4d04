//! Open Inference Protocol over gRPC: decodes `ModelInfer` requests with raw or typed contents, encodes raw
//! responses.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use sluice_protocol::WireFormat;
use sluice_protocol::grpc::model_infer_response::InferOutputTensor;
use sluice_protocol::grpc::{self, InferTensorContents, ModelInferRequest, ModelInferResponse};

use super::batch::{BadInput, BatchBuilder, Input, Limits, Wanted};
use super::call::{Call, EncodedResponse};
use crate::reference::{ID, WIDTH, Y};

/// Decodes the framed body of a `ModelInfer` call; returns the name of the model with the call.
///
/// # Errors
/// Says which input is wrong and what was expected.
pub(super) fn decode(body: Bytes, body_limit: usize, limits: &Limits) -> Result<(String, Call), BadInput> {
    let malformed = |error: String| BadInput::Malformed(error);
    let message = grpc::decode_unary(body, body_limit).map_err(|error| malformed(error.to_string()))?;
    let request = ModelInferRequest::decode(message).map_err(|error| malformed(error.to_string()))?;
    let raw = &request.raw_input_contents;
    if !raw.is_empty() && raw.len() != request.inputs.len() {
        return Err(malformed(format!(
            "{} raw_input_contents for {} inputs, expected one each or none",
            raw.len(),
            request.inputs.len()
        )));
    }
    let mut builder = BatchBuilder::default();
    for (index, tensor) in request.inputs.iter().enumerate() {
        let (input, rows) = Input::of(&tensor.name, &tensor.datatype, &tensor.shape)?;
        match (raw.get(index), &tensor.contents) {
            (Some(bytes), None) => builder.raw(input, rows, bytes)?,
            (None, Some(contents)) => typed(&mut builder, input, rows, contents)?,
            (Some(_), Some(_)) => {
                return Err(malformed(format!(
                    "input `{}` has both contents and raw_input_contents",
                    tensor.name
                )));
            }
            (None, None) => return Err(malformed(format!("input `{}` has no contents", tensor.name))),
        }
    }
    let wanted = Wanted::of(request.outputs.iter().map(|output| output.name.as_str()))?;
    let batch = builder.finish(limits)?;
    let request_id = Some(request.id).filter(|id| !id.is_empty());
    Ok((request.model_name, Call { form: WireFormat::Grpc, request_id, batch, wanted, binary: wanted }))
}

fn typed(
    builder: &mut BatchBuilder,
    input: Input,
    rows: usize,
    contents: &InferTensorContents,
) -> Result<(), BadInput> {
    let expected = rows.saturating_mul(input.width());
    let found = match input {
        Input::Id => contents.int64_contents.len(),
        Input::X => contents.fp32_contents.len(),
    };
    if found != expected {
        return Err(BadInput::Length { name: input.name(), found, expected, unit: "typed elements" });
    }
    match input {
        Input::Id => builder.ids(contents.int64_contents.clone()),
        Input::X => builder.x(contents.fp32_contents.clone()),
    }
}

/// Encodes the framed response of the model `model`.
pub(super) fn encode(call: &Call, model: &str) -> EncodedResponse {
    let rows = call.batch.ids.len();
    let mut response = ModelInferResponse {
        model_name: model.to_owned(),
        model_version: "1".to_owned(),
        id: call.request_id.clone().unwrap_or_default(),
        ..Default::default()
    };
    let mut output = |name: &str, datatype: &str, width: usize, raw: Bytes| {
        response.outputs.push(InferOutputTensor {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape: vec![rows as i64, width as i64],
            ..Default::default()
        });
        response.raw_output_contents.push(raw);
    };
    if call.wanted.id {
        output(ID, "INT64", 1, call.batch.ids.iter().flat_map(|id| id.to_le_bytes()).collect());
    }
    if call.wanted.y {
        output(Y, "FP32", WIDTH, call.batch.answers().iter().flat_map(|y| y.to_le_bytes()).collect());
    }
    EncodedResponse { body: frame(&response), json_bytes: None }
}

/// Encodes a message with its 5-byte prefix. Messages here are far below the limit of 4 GiB.
pub(super) fn frame(message: &impl Message) -> Bytes {
    let bytes = message.encoded_len();
    let mut framed = BytesMut::with_capacity(grpc::PREFIX_BYTES + bytes);
    framed.put_u8(0);
    framed.put_u32(bytes as u32);
    framed.put_slice(&message.encode_to_vec());
    framed.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_protocol::grpc::model_infer_request::InferInputTensor;

    const LIMITS: Limits = Limits { max_batch_rows: 4, poison_id: None };

    fn tensor(name: &str, datatype: &str, shape: [i64; 2]) -> InferInputTensor {
        InferInputTensor {
            name: name.into(),
            datatype: datatype.into(),
            shape: shape.into(),
            ..Default::default()
        }
    }

    fn request() -> ModelInferRequest {
        ModelInferRequest {
            model_name: "reference".into(),
            id: "r1".into(),
            inputs: vec![tensor("id", "INT64", [1, 1]), tensor("x", "FP32", [1, 16])],
            raw_input_contents: vec![
                Bytes::from(7_i64.to_le_bytes().to_vec()),
                [0.5_f32; 16].iter().flat_map(|x| x.to_le_bytes()).collect(),
            ],
            ..Default::default()
        }
    }

    fn decoded(request: &ModelInferRequest) -> Result<Call, String> {
        decode(frame(request), 1 << 20, &LIMITS).map(|(_, call)| call).map_err(|error| error.to_string())
    }

    #[test]
    fn raw_and_typed_contents_mean_the_same() {
        let mut typed = request();
        typed.raw_input_contents.clear();
        typed.inputs[0].contents =
            Some(InferTensorContents { int64_contents: vec![7], ..Default::default() });
        typed.inputs[1].contents =
            Some(InferTensorContents { fp32_contents: vec![0.5; 16], ..Default::default() });
        assert_eq!(decoded(&request()).unwrap().batch, decoded(&typed).unwrap().batch);
    }

    #[test]
    fn an_answer_carries_the_request_id_and_the_function_of_each_row() {
        let answer = encode(&decoded(&request()).unwrap(), "reference");
        let message = grpc::decode_unary(answer.body, 1 << 20).unwrap();
        let response = ModelInferResponse::decode(message).unwrap();
        assert_eq!((response.id.as_str(), response.model_name.as_str()), ("r1", "reference"));
        assert_eq!(response.raw_output_contents[0], 7_i64.to_le_bytes().as_slice());
        assert_eq!(response.raw_output_contents[1][..4], 8.5_f32.to_le_bytes());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_input() {
        let mut short = request();
        short.raw_input_contents[1].truncate(60);
        assert!(decoded(&short).unwrap_err().contains("`x`: 60 bytes, but its shape asks for 64"));
        let mut one_raw = request();
        one_raw.raw_input_contents.pop();
        assert!(decoded(&one_raw).unwrap_err().contains("1 raw_input_contents for 2 inputs"));
        let mut other = request();
        other.outputs.push(grpc::model_infer_request::InferRequestedOutputTensor {
            name: "z".into(),
            ..Default::default()
        });
        assert!(decoded(&other).unwrap_err().contains("output `z`"));
    }
}
