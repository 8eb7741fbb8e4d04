//! A client of each form: encodes tensors in its own way and decodes answers, independently of the crate.

use bytes::Bytes;
use prost::Message;
use serde_json::Value;
use sluice_protocol::grpc::infer_parameter::ParameterChoice;
use sluice_protocol::grpc::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use sluice_protocol::grpc::{
    InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse, decode_unary,
};
use sluice_protocol::{
    Answer, Datatype, Form, InferRequest, Limits, ModelSignature, Target, TensorSignature, V1Target,
    parse_binary, parse_grpc, parse_json, parse_v1,
};

/// A tensor by value; each element is its little-endian bytes (BYTES: without the length).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Values {
    pub(crate) name: String,
    pub(crate) datatype: Datatype,
    pub(crate) shape: Vec<u64>,
    pub(crate) elements: Vec<Vec<u8>>,
}

/// How a client encodes its request and wants its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    JsonFlat,
    JsonNested,
    /// JSON in, raw out.
    JsonRawOut,
    Binary,
    /// Raw in, JSON out.
    BinaryJsonOut,
    /// Every other input as JSON.
    BinaryMixed,
    GrpcRaw,
    GrpcTyped,
    /// Instances: bare values of a single input, else objects by name.
    V1,
    /// Instances that are always objects.
    V1Named,
}

impl Style {
    pub(crate) const ALL: [Self; 10] = [
        Self::JsonFlat,
        Self::JsonNested,
        Self::JsonRawOut,
        Self::Binary,
        Self::BinaryJsonOut,
        Self::BinaryMixed,
        Self::GrpcRaw,
        Self::GrpcTyped,
        Self::V1,
        Self::V1Named,
    ];

    pub(crate) fn is_v1(self) -> bool {
        matches!(self, Self::V1 | Self::V1Named)
    }

    pub(crate) fn wants_raw(self) -> bool {
        matches!(self, Self::JsonRawOut | Self::Binary | Self::BinaryMixed)
    }

    /// Whether FP16, BF16 and any BYTES can travel both ways.
    pub(crate) fn is_raw_throughout(self) -> bool {
        matches!(self, Self::Binary | Self::GrpcRaw)
    }
}

pub(crate) fn target() -> Target {
    Target { model: "m".into(), version: None }
}

/// Encodes and parses a request.
pub(crate) fn request(style: Style, id: Option<&str>, inputs: &[Values]) -> InferRequest {
    request_with(style, id, inputs, &Wishes::default())
}

/// What a client says beyond its inputs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// Names of the outputs that it selects; none: all.
    pub(crate) outputs: Vec<String>,
    /// The parameter `timeout`, which is the batcher's own.
    pub(crate) timeout_us: Option<u64>,
    /// A parameter that is forwarded.
    pub(crate) flavour: Option<String>,
}

/// Encodes and parses a request.
pub(crate) fn request_with(
    style: Style,
    id: Option<&str>,
    inputs: &[Values],
    wishes: &Wishes,
) -> InferRequest {
    let limits = Limits::default();
    let parsed = match style {
        Style::GrpcRaw | Style::GrpcTyped => parse_grpc(grpc_body(style, id, inputs, wishes), &limits),
        Style::V1 | Style::V1Named => {
            assert_eq!((id, wishes), (None, &Wishes::default()), "V1 has neither");
            let v1 = V1Target { target: target(), label: None };
            parse_v1(&v1, v1_body(style, inputs), &limits, Some(&signature(inputs)))
        }
        _ => {
            let (header, raw) = rest_body(style, id, inputs, wishes);
            let length = header.len();
            let body = Bytes::from([header.into_bytes(), raw].concat());
            match style {
                Style::JsonFlat | Style::JsonNested | Style::JsonRawOut => {
                    parse_json(&target(), body, &limits)
                }
                _ => parse_binary(&target(), length, body, &limits),
            }
        }
    };
    parsed.unwrap_or_else(|error| panic!("{style:?}: {error}"))
}

/// The metadata of a model with these inputs: dimension 0 may vary, and every other one besides the last.
pub(crate) fn signature(inputs: &[Values]) -> ModelSignature {
    let tensor = |values: &Values| TensorSignature {
        name: values.name.clone(),
        datatype: values.datatype,
        shape: (0..values.shape.len()).map(|at| (at % 2 == 1).then(|| values.shape[at])).collect(),
    };
    ModelSignature { inputs: inputs.iter().map(tensor).collect(), outputs: Vec::new() }
}

fn v1_body(style: Style, inputs: &[Values]) -> Bytes {
    let rows = inputs[0].shape[0] as usize;
    let value = |values: &Values, row: usize| {
        let size = values.elements.len() / rows;
        let (shape, elements) = (&values.shape[1..], &values.elements[row * size..(row + 1) * size]);
        let one = Values { elements: elements.to_vec(), ..values.clone() };
        match shape {
            [] => json_scalar(values.datatype, &elements[0]),
            shape => json_data(&one, shape),
        }
    };
    let instance = |row: usize| match inputs {
        [single] if style == Style::V1 => value(single, row),
        _ => {
            let members =
                inputs.iter().map(|values| format!(r#""{}" : {}"#, values.name, value(values, row)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
        }
    };
    let instances: Vec<_> = (0..rows).map(instance).collect();
    format!(r#"{{"signature_name":"serving_default","instances":[{}]}}"#, instances.join(" ,")).into()
}

fn rest_body(style: Style, id: Option<&str>, inputs: &[Values], wishes: &Wishes) -> (String, Vec<u8>) {
    let mut raw = Vec::new();
    let mut tensors = Vec::new();
    for (at, values) in inputs.iter().enumerate() {
        let as_raw = match style {
            Style::Binary | Style::BinaryJsonOut => true,
            Style::BinaryMixed => at % 2 == 0,
            _ => false,
        };
        let data = if as_raw {
            let bytes = raw_bytes(values);
            raw.extend_from_slice(&bytes);
            format!(r#""parameters":{{"binary_data_size":{}}}"#, bytes.len())
        } else {
            let nested = style == Style::JsonNested;
            format!(r#""data":{}"#, json_data(values, if nested { &values.shape } else { &[] }))
        };
        tensors.push(format!(
            r#"{{"name":"{}","shape":{:?},"datatype":"{}",{data}}}"#,
            values.name,
            values.shape,
            values.datatype.name()
        ));
    }
    let id = id.map(|id| format!(r#""id":{},"#, Value::from(id))).unwrap_or_default();
    let mut parameters = serde_json::Map::new();
    if style.wants_raw() {
        parameters.insert("binary_data_output".into(), true.into());
    }
    parameters.extend(wishes.timeout_us.map(|timeout| ("timeout".to_owned(), timeout.into())));
    parameters.extend(wishes.flavour.clone().map(|flavour| ("flavour".to_owned(), flavour.into())));
    let parameters = Value::from(parameters);
    let outputs: Vec<_> = wishes.outputs.iter().map(|name| format!(r#"{{"name":"{name}"}}"#)).collect();
    let outputs =
        if outputs.is_empty() { String::new() } else { format!(r#","outputs":[{}]"#, outputs.join(",")) };
    let inputs = tensors.join(",");
    (format!(r#"{{{id}"parameters":{parameters},"inputs":[{inputs}]{outputs}}}"#), raw)
}

fn grpc_body(style: Style, id: Option<&str>, inputs: &[Values], wishes: &Wishes) -> Bytes {
    let raw = style == Style::GrpcRaw;
    let input = |values: &Values| InferInputTensor {
        name: values.name.clone(),
        datatype: values.datatype.name().into(),
        shape: values.shape.iter().map(|dim| dim.cast_signed()).collect(),
        parameters: Default::default(),
        contents: (!raw).then(|| contents(values)),
    };
    let parameter = |choice| InferParameter { parameter_choice: Some(choice) };
    let timeout = wishes
        .timeout_us
        .map(|timeout| ("timeout".to_owned(), parameter(ParameterChoice::Int64Param(timeout.cast_signed()))));
    let flavour = wishes.flavour.clone();
    let flavour =
        flavour.map(|flavour| ("flavour".to_owned(), parameter(ParameterChoice::StringParam(flavour))));
    let output =
        |name: &String| InferRequestedOutputTensor { name: name.clone(), parameters: Default::default() };
    let message = ModelInferRequest {
        model_name: "m".into(),
        id: id.unwrap_or_default().into(),
        parameters: timeout.into_iter().chain(flavour).collect(),
        inputs: inputs.iter().map(input).collect(),
        outputs: wishes.outputs.iter().map(output).collect(),
        raw_input_contents: if raw {
            inputs.iter().map(raw_bytes).map(Bytes::from).collect()
        } else {
            Vec::new()
        },
        ..Default::default()
    };
    message.encode_to_vec().into()
}

/// Little-endian bytes of a whole tensor.
pub(crate) fn raw_bytes(values: &Values) -> Vec<u8> {
    let mut raw = Vec::new();
    for element in &values.elements {
        if values.datatype == Datatype::Bytes {
            raw.extend_from_slice(&(element.len() as u32).to_le_bytes());
        }
        raw.extend_from_slice(element);
    }
    raw
}

/// The elements as JSON, nested by `shape` (flat when it is empty or of rank 1).
fn json_data(values: &Values, shape: &[u64]) -> String {
    let scalars: Vec<String> =
        values.elements.iter().map(|element| json_scalar(values.datatype, element)).collect();
    fn nest(scalars: &[String], shape: &[u64]) -> String {
        match shape {
            [] | [_] => format!("[{}]", scalars.join(", ")),
            [rows, rest @ ..] => {
                let size = scalars.len() / *rows as usize;
                let items: Vec<String> = scalars.chunks(size.max(1)).map(|chunk| nest(chunk, rest)).collect();
                format!("[ {} ]", items.join(","))
            }
        }
    }
    nest(&scalars, shape)
}

fn json_scalar(datatype: Datatype, element: &[u8]) -> String {
    let wide = |signed: bool| {
        let fill = if signed && element.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
        let mut bytes = [fill; 16];
        bytes[..element.len()].copy_from_slice(element);
        i128::from_le_bytes(bytes).to_string()
    };
    let float = |text: String| match text.as_str() {
        "inf" => "Infinity".into(),
        "-inf" => "-Infinity".into(),
        _ => text,
    };
    match datatype {
        Datatype::Bool => (element != [0]).to_string(),
        Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32 | Datatype::Uint64 => wide(false),
        Datatype::Int8 | Datatype::Int16 | Datatype::Int32 | Datatype::Int64 => wide(true),
        Datatype::Fp32 => float(format!("{:?}", f32::from_le_bytes(element.try_into().unwrap()))),
        Datatype::Fp64 => float(format!("{:?}", f64::from_le_bytes(element.try_into().unwrap()))),
        Datatype::Bytes => Value::from(str::from_utf8(element).unwrap()).to_string(),
        Datatype::Fp16 | Datatype::Bf16 => unreachable!("no JSON form"),
    }
}

fn contents(values: &Values) -> InferTensorContents {
    let mut contents = InferTensorContents::default();
    for element in &values.elements {
        let text = || json_scalar(values.datatype, element);
        match values.datatype {
            Datatype::Bool => contents.bool_contents.push(element != &[0]),
            Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32 => {
                contents.uint_contents.push(text().parse().unwrap());
            }
            Datatype::Uint64 => contents.uint64_contents.push(text().parse().unwrap()),
            Datatype::Int8 | Datatype::Int16 | Datatype::Int32 => {
                contents.int_contents.push(text().parse().unwrap())
            }
            Datatype::Int64 => contents.int64_contents.push(text().parse().unwrap()),
            Datatype::Fp32 => {
                contents.fp32_contents.push(f32::from_le_bytes(element[..].try_into().unwrap()));
            }
            Datatype::Fp64 => {
                contents.fp64_contents.push(f64::from_le_bytes(element[..].try_into().unwrap()));
            }
            Datatype::Bytes => contents.bytes_contents.push(Bytes::from(element.clone())),
            Datatype::Fp16 | Datatype::Bf16 => unreachable!("no typed contents"),
        }
    }
    contents
}

/// What a client finds in its answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) id: Option<String>,
    pub(crate) model: String,
    /// The answer's parameter `served`, which all clients get.
    pub(crate) served: String,
    pub(crate) outputs: Vec<Values>,
    /// How many of the outputs were raw.
    pub(crate) raw_outputs: usize,
}

/// Decodes an answer as a client would.
pub(crate) fn receive(answer: &Answer) -> Received {
    let body = Bytes::from(answer.chunks.concat());
    assert_eq!(body.len(), answer.body_bytes);
    if answer.form == Form::Grpc {
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

/// JSON in which NaN and infinities, which serde_json does not know, are strings.
fn document(text: &[u8]) -> Value {
    let mut text = str::from_utf8(text).unwrap().to_owned();
    for (bare, quoted) in [("-Infinity", "\"-Infinit\""), ("Infinity", "\"Infinity\""), ("NaN", "\"NaN\"")] {
        text = text.replace(bare, quoted);
    }
    let text = text.replace("-Infinit\"", "-Infinity\"");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Decodes `predictions`. V1 answers name no datatypes: those of `like`, which are the echoed inputs', are expected.
pub(crate) fn receive_v1(answer: &Answer, like: &[Values]) -> Vec<Values> {
    assert_eq!((answer.form, answer.content_type), (Form::V1, "application/json"));
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
