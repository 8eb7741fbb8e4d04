//! Decodes a response as a client does, independently of the crate.

use bytes::Bytes;
use prost::Message;
use serde_json::Value;
use sluice_protocol::grpc::infer_parameter::ParameterChoice;
use sluice_protocol::grpc::{ModelInferResponse, decode_unary};
use sluice_protocol::{Datatype, ResponsePart, WireFormat};

use super::Values;

/// Content of a response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) id: Option<String>,
    pub(crate) model: String,
    /// The response's parameter `served`, which all clients get.
    pub(crate) served: String,
    pub(crate) outputs: Vec<Values>,
    /// Number of outputs that were raw.
    pub(crate) raw_outputs: usize,
}

/// Decodes a response as a client would.
pub(crate) fn receive(answer: &ResponsePart) -> Received {
    let body = Bytes::from(answer.chunks.concat());
    assert_eq!(body.len(), answer.body_bytes);
    if answer.format == WireFormat::Grpc {
        assert_eq!(answer.content_type, "application/grpc");
        return receive_grpc(body);
    }
    let json = answer.header_length.unwrap_or(body.len());
    let expected =
        if answer.header_length.is_some() { "application/octet-stream" } else { "application/json" };
    assert_eq!(answer.content_type, expected);
    let document = document(&body[..json]);
    let mut rest = &body[json..];
    let mut raw_outputs = 0;
    let outputs = document["outputs"].as_array().unwrap().iter().map(|output| {
        let datatype = Datatype::from_name(output["datatype"].as_str().unwrap()).unwrap();
        let shape: Vec<u64> =
            output["shape"].as_array().unwrap().iter().map(|dim| dim.as_u64().unwrap()).collect();
        let elements = match output["parameters"]["binary_data_size"].as_u64() {
            Some(size) => {
                raw_outputs += 1;
                let (raw, after) = rest.split_at(size as usize);
                rest = after;
                split_elements(datatype, raw)
            }
            None => {
                let mut elements = Vec::new();
                flatten(&output["data"], &mut |scalar| elements.push(scalar_bytes(datatype, scalar)));
                elements
            }
        };
        Values { name: output["name"].as_str().unwrap().into(), datatype, shape, elements }
    });
    let outputs = outputs.collect();
    assert!(rest.is_empty());
    Received {
        id: document["id"].as_str().map(Into::into),
        model: document["model_name"].as_str().unwrap().into(),
        served: document["parameters"]["served"].as_str().unwrap_or_default().into(),
        outputs,
        raw_outputs,
    }
}

/// Parses JSON, with NaN and infinities, which serde_json does not know, as strings.
fn document(text: &[u8]) -> Value {
    let mut text = str::from_utf8(text).unwrap().to_owned();
    for (bare, quoted) in [("-Infinity", "\"-Infinit\""), ("Infinity", "\"Infinity\""), ("NaN", "\"NaN\"")] {
        text = text.replace(bare, quoted);
    }
    let text = text.replace("-Infinit\"", "-Infinity\"");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Decodes `predictions`. V1 responses name no datatypes, so those of `like`, the echoed inputs, are expected.
pub(crate) fn receive_v1(answer: &ResponsePart, like: &[Values]) -> Vec<Values> {
    assert_eq!((answer.format, answer.content_type), (WireFormat::V1, "application/json"));
    let body = document(&answer.chunks.concat());
    let predictions = body["predictions"].as_array().unwrap();
    let column = |values: &Values| {
        let mut elements = Vec::new();
        for prediction in predictions {
            let value = if like.len() == 1 { prediction } else { &prediction[&values.name] };
            let dims = dimensions(value);
            assert_eq!(dims, values.shape[1..], "{prediction}");
            flatten(value, &mut |scalar| elements.push(scalar_bytes(values.datatype, scalar)));
        }
        let mut shape = values.shape.clone();
        shape[0] = predictions.len() as u64;
        Values { shape, elements, ..values.clone() }
    };
    like.iter().map(column).collect()
}

fn dimensions(value: &Value) -> Vec<u64> {
    match value {
        Value::Array(items) => {
            let inner = items.first().map(dimensions).unwrap_or_default();
            std::iter::once(items.len() as u64).chain(inner).collect()
        }
        _ => Vec::new(),
    }
}

fn receive_grpc(body: Bytes) -> Received {
    let message = ModelInferResponse::decode(decode_unary(body, usize::MAX).unwrap()).unwrap();
    assert_eq!(message.outputs.len(), message.raw_output_contents.len());
    let outputs = message.outputs.iter().zip(&message.raw_output_contents).map(|(output, raw)| {
        let datatype = Datatype::from_name(&output.datatype).unwrap();
        let shape = output.shape.iter().map(|dim| dim.cast_unsigned()).collect();
        Values { name: output.name.clone(), datatype, shape, elements: split_elements(datatype, raw) }
    });
    Received {
        id: Some(message.id).filter(|id| !id.is_empty()),
        model: message.model_name,
        served: match message.parameters.get("served").and_then(|value| value.parameter_choice.clone()) {
            Some(ParameterChoice::StringParam(served)) => served,
            _ => String::new(),
        },
        raw_outputs: message.raw_output_contents.len(),
        outputs: outputs.collect(),
    }
}

fn split_elements(datatype: Datatype, mut raw: &[u8]) -> Vec<Vec<u8>> {
    let Some(size) = datatype.size_bytes() else {
        let mut elements = Vec::new();
        while let Some((length, rest)) = raw.split_first_chunk::<4>() {
            let (element, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
            elements.push(element.to_vec());
            raw = rest;
        }
        return elements;
    };
    raw.chunks(size).map(<[u8]>::to_vec).collect()
}

fn flatten(data: &Value, push: &mut impl FnMut(&Value)) {
    match data {
        Value::Array(items) => items.iter().for_each(|item| flatten(item, push)),
        scalar => push(scalar),
    }
}

fn scalar_bytes(datatype: Datatype, scalar: &Value) -> Vec<u8> {
    let text = scalar.as_str().map_or_else(|| scalar.to_string(), Into::into);
    macro_rules! bytes {
        ($number:ty) => {
            text.parse::<$number>().unwrap_or_else(|error| panic!("{text}: {error}")).to_le_bytes().to_vec()
        };
    }
    match datatype {
        Datatype::Bool => vec![u8::from(scalar.as_bool().unwrap())],
        Datatype::Uint8 => bytes!(u8),
        Datatype::Uint16 => bytes!(u16),
        Datatype::Uint32 => bytes!(u32),
        Datatype::Uint64 => bytes!(u64),
        Datatype::Int8 => bytes!(i8),
        Datatype::Int16 => bytes!(i16),
        Datatype::Int32 => bytes!(i32),
        Datatype::Int64 => bytes!(i64),
        Datatype::Fp32 => bytes!(f32),
        Datatype::Fp64 => bytes!(f64),
        Datatype::Bytes => text.into_bytes(),
        Datatype::Fp16 | Datatype::Bf16 => unreachable!("no JSON form"),
    }
}
