//! Open Inference Protocol over REST: requests and responses as JSON, alone or followed by binary tensors.
//! <https://github.com/kserve/open-inference-protocol>, and Triton's binary tensor data extension.

use std::borrow::Cow;
use std::str::FromStr;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;
use sluice_protocol::WireFormat;

use super::batch::{BadInput, BatchBuilder, Input, Limits, Wanted};
use super::call::{Call, EncodedResponse};
use crate::reference::{ID, WIDTH, Y};
use crate::tensor_text::{self, NotNumbers};

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(default, borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(default)]
    parameters: RequestParameters,
    #[serde(borrow)]
    inputs: Vec<InputTensor<'a>>,
    #[serde(default, borrow)]
    outputs: Vec<RequestedOutput<'a>>,
}

#[derive(Default, Deserialize)]
struct RequestParameters {
    #[serde(default)]
    binary_data_output: bool,
}

#[derive(Deserialize)]
struct InputTensor<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    shape: Vec<i64>,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    #[serde(default)]
    parameters: TensorParameters,
    #[serde(default, borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct TensorParameters {
    #[serde(default)]
    binary_data_size: Option<usize>,
}

#[derive(Deserialize)]
struct RequestedOutput<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(default)]
    parameters: OutputParameters,
}

#[derive(Default, Deserialize)]
struct OutputParameters {
    #[serde(default)]
    binary_data: Option<bool>,
}

/// Decodes the body of an inference request. `json_bytes` is the value of `Inference-Header-Content-Length`;
/// `None` where the request has no such header.
///
/// # Errors
/// Says which input is wrong and what was expected.
pub fn decode(body: &[u8], json_bytes: Option<usize>, limits: &Limits) -> Result<Call, BadInput> {
    let split = json_bytes.unwrap_or(body.len());
    if split > body.len() || split == 0 {
        return Err(BadInput::Malformed(format!(
            "Inference-Header-Content-Length is {split}, but the body has {} bytes",
            body.len()
        )));
    }
    let (json, mut raw) = body.split_at(split);
    let request: Request<'_> = serde_json::from_slice(json)
        .map_err(|error| BadInput::Malformed(format!("not an inference request: {error}")))?;

    let mut binary_request = false;
    let mut builder = BatchBuilder::default();
    for tensor in &request.inputs {
        let (input, rows) = Input::of(&tensor.name, &tensor.datatype, &tensor.shape)?;
        match (tensor.parameters.binary_data_size, tensor.data) {
            (Some(bytes), None) => {
                let found = raw.len();
                let (own, rest) = raw.split_at_checked(bytes).ok_or(BadInput::Length {
                    name: input.name(),
                    found,
                    expected: bytes,
                    unit: "bytes left in the body",
                })?;
                raw = rest;
                binary_request = true;
                builder.raw(input, rows, own)?;
            }
            (None, Some(data)) => match input {
                Input::Id => builder.ids(numbers(input, rows, data)?)?,
                Input::X => builder.x(numbers(input, rows, data)?)?,
            },
            (Some(_), Some(_)) => {
                return Err(BadInput::Malformed(format!(
                    "input `{}` has both data and binary_data_size",
                    tensor.name
                )));
            }
            (None, None) => {
                return Err(BadInput::Malformed(format!(
                    "input `{}` has neither data nor binary_data_size",
                    tensor.name
                )));
            }
        }
    }
    if !raw.is_empty() {
        return Err(BadInput::Malformed(format!(
            "{} bytes are left over after the last binary tensor",
            raw.len()
        )));
    }

    let all_binary = request.parameters.binary_data_output;
    let wanted = Wanted::of(request.outputs.iter().map(|output| &*output.name))?;
    let as_binary = |name: &str| {
        let asked = request.outputs.iter().find(|output| output.name == name);
        asked.and_then(|output| output.parameters.binary_data).unwrap_or(all_binary)
    };
    let binary = Wanted { id: wanted.id && as_binary(ID), y: wanted.y && as_binary(Y) };
    let form = if binary_request || binary.id || binary.y { WireFormat::Binary } else { WireFormat::Json };
    let request_id = request.id.map(Cow::into_owned);
    Ok(Call { form, request_id, batch: builder.finish(limits)?, wanted, binary })
}

/// Parses the numbers of a JSON tensor; there must be as many as its shape says.
fn numbers<T: FromStr>(input: Input, rows: usize, data: &RawValue) -> Result<Vec<T>, BadInput> {
    let name = input.name();
    let expected = rows.saturating_mul(input.width());
    let numbers = tensor_text::parse(data.get(), expected).map_err(|error| match error {
        NotNumbers::NoArray => BadInput::Malformed(format!("data of input `{name}` is not an array")),
        NotNumbers::Element { index, found } => {
            BadInput::Element { name, index, found, expected: input.datatype() }
        }
    })?;
    if numbers.len() != expected {
        return Err(BadInput::Length { name, found: numbers.len(), expected, unit: "elements" });
    }
    Ok(numbers)
}

/// Encodes the response of the model `model`.
pub fn encode(call: &Call, model: &str) -> EncodedResponse {
    let rows = call.batch.ids.len();
    let y = call.batch.answers();
    let mut json = BytesMut::with_capacity(256 + rows * WIDTH * 10);
    let mut raw = BytesMut::new();
    json.put_slice(b"{\"model_name\":");
    put_text(&mut json, model);
    json.put_slice(b",\"model_version\":\"1\"");
    if let Some(id) = &call.request_id {
        json.put_slice(b",\"id\":");
        put_text(&mut json, id);
    }
    json.put_slice(b",\"outputs\":[");
    if call.wanted.id {
        put_tensor_head(&mut json, ID, "INT64", rows, 1);
        if call.binary.id {
            put_binary_size(&mut json, rows * 8);
            call.batch.ids.iter().for_each(|id| raw.put_i64_le(*id));
        } else {
            put_numbers(&mut json, &call.batch.ids);
        }
    }
    if call.wanted.y {
        if call.wanted.id {
            json.put_u8(b',');
        }
        put_tensor_head(&mut json, Y, "FP32", rows, WIDTH);
        if call.binary.y {
            put_binary_size(&mut json, y.len() * 4);
            y.iter().for_each(|y| raw.put_f32_le(*y));
        } else {
            put_numbers(&mut json, &y);
        }
    }
    json.put_slice(b"]}");
    let json_bytes = (call.binary.id || call.binary.y).then_some(json.len());
    json.unsplit(raw);
    EncodedResponse { body: json.freeze(), json_bytes }
}

fn put_text(out: &mut BytesMut, text: &str) {
    out.put_slice(serde_json::Value::from(text).to_string().as_bytes());
}

fn put_tensor_head(out: &mut BytesMut, name: &str, datatype: &str, rows: usize, width: usize) {
    let head = format!("{{\"name\":\"{name}\",\"datatype\":\"{datatype}\",\"shape\":[{rows},{width}],");
    out.put_slice(head.as_bytes());
}

fn put_binary_size(out: &mut BytesMut, bytes: usize) {
    out.put_slice(format!("\"parameters\":{{\"binary_data_size\":{bytes}}}}}").as_bytes());
}

fn put_numbers<T: serde::Serialize>(out: &mut BytesMut, numbers: &[T]) {
    out.put_slice(b"\"data\":");
    // Writing numbers to memory cannot fail; an infinite y becomes null, as JSON has no word for it.
    let written = serde_json::to_writer((&mut *out).writer(), numbers);
    debug_assert!(written.is_ok());
    out.put_u8(b'}');
}

/// An error in the protocol's form.
pub fn error_body(message: &str) -> Bytes {
    serde_json::json!({ "error": message }).to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { max_batch_rows: 4, poison_id: Some(666) };

    fn request(ids: &str, rows: usize, x: &str) -> String {
        format!(
            r#"{{"id":"r1","inputs":[
                {{"name":"id","shape":[{rows},1],"datatype":"INT64","data":{ids}}},
                {{"name":"x","shape":[{rows},16],"datatype":"FP32","data":{x}}}]}}"#
        )
    }

    fn x_of(rows: usize) -> String {
        serde_json::to_string(&vec![0.5; rows * 16]).unwrap()
    }

    fn refused(body: &str) -> String {
        decode(body.as_bytes(), None, &LIMITS).unwrap_err().to_string()
    }

    #[test]
    fn nested_and_flat_data_mean_the_same() {
        let nested = format!("[{0},{0}]", serde_json::to_string(&[0.5; 16]).unwrap());
        let flat = decode(request("[1,2]", 2, &x_of(2)).as_bytes(), None, &LIMITS).unwrap();
        let nested = decode(request("[[1],[2]]", 2, &nested).as_bytes(), None, &LIMITS).unwrap();
        assert_eq!(flat.batch, nested.batch);
        assert_eq!(flat.request_id.as_deref(), Some("r1"));
    }

    #[test]
    fn an_answer_names_its_request_and_gives_each_row_its_function() {
        let call = decode(request("[1,1025]", 2, &x_of(2)).as_bytes(), None, &LIMITS).unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&encode(&call, "reference").body).unwrap();
        assert_eq!(answer["id"], "r1");
        assert_eq!(answer["outputs"][0]["data"], serde_json::json!([1, 1025]));
        assert_eq!(answer["outputs"][1]["shape"], serde_json::json!([2, 16]));
        assert_eq!(answer["outputs"][1]["data"], serde_json::json!(vec![2.5; 32]));
    }

    #[test]
    fn binary_tensors_go_in_and_come_out_behind_the_json() {
        let head = br#"{"parameters":{"binary_data_output":true},"inputs":[
            {"name":"x","shape":[1,16],"datatype":"FP32","parameters":{"binary_data_size":64}},
            {"name":"id","shape":[1,1],"datatype":"INT64","parameters":{"binary_data_size":8}}]}"#;
        let mut body = head.to_vec();
        (0..16).for_each(|_| body.extend(0.5_f32.to_le_bytes()));
        body.extend(7_i64.to_le_bytes());
        let call = decode(&body, Some(head.len()), &LIMITS).unwrap();
        assert_eq!((call.form, call.batch.ids.as_slice()), (WireFormat::Binary, &[7][..]));
        let answer = encode(&call, "reference");
        let raw = &answer.body[answer.json_bytes.unwrap()..];
        assert_eq!(raw[..8], 7_i64.to_le_bytes());
        assert_eq!(raw[8..12], 8.5_f32.to_le_bytes());
        assert_eq!(raw.len(), 8 + 64);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_input() {
        assert!(refused(&request("[1]", 2, &x_of(2))).contains("`id`: 1 elements, but its shape asks for 2"));
        assert!(refused(&request("[1.5]", 1, &x_of(1))).contains("`id`: element 0 is `1.5`, expected INT64"));
        assert!(refused(&request("[1]", 1, "[null]")).contains("`x`: element 0 is `null`"));
        assert!(refused(&request("[1,2,3,4,5]", 5, &x_of(5))).contains("at most 4"));
        assert!(refused(&request("[1,666]", 2, &x_of(2))).contains("row 1 has the poisoned id 666"));
        assert!(
            refused(&request("[1]", 1, &x_of(1)).replace("FP32", "FP64"))
                .contains("datatype FP64, expected FP32")
        );
        assert!(
            refused(&request("[1]", 1, &x_of(1)).replace("[1,16]", "[1,8]")).contains("`x`: shape [1, 8]")
        );
        assert!(refused(r#"{"inputs":[]}"#).contains("`id`: missing"));
        assert!(refused("{").contains("not an inference request"));
    }

    #[test]
    fn a_shape_of_absurd_size_is_refused_without_reserving_memory() {
        let body = request("[1]", 1, &x_of(1)).replace("[1,1]", "[4000000000,1]");
        assert!(refused(&body).contains("its shape asks for 4000000000"));
    }
}
