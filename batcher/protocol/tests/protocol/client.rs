//! A client of each wire format, which encodes tensors independently of the crate.

// The path includes the folder, because the fuzz targets include this file from elsewhere.
#[path = "client/received.rs"]
mod received;

use bytes::Bytes;
use prost::Message;
use serde_json::Value;
use sluice_protocol::grpc::infer_parameter::ParameterChoice;
use sluice_protocol::grpc::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use sluice_protocol::grpc::{InferParameter, InferTensorContents, ModelInferRequest};
use sluice_protocol::{
    Address, Datatype, InferRequest, Limits, ModelSignature, Target, TensorSignature, parse_binary,
    parse_grpc, parse_json, parse_v1,
};

pub(crate) use received::*;

/// A tensor by value; each element is given by its little-endian bytes (BYTES: without the length).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Values {
    pub(crate) name: String,
    pub(crate) datatype: Datatype,
    pub(crate) shape: Vec<u64>,
    pub(crate) elements: Vec<Vec<u8>>,
}

/// How a client encodes its request and wants its response.
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

    /// Returns whether FP16, BF16 and any BYTES can be sent and received.
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

/// Content of a client's request beside its inputs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// Names of the outputs that it selects; empty where it wants all.
    pub(crate) outputs: Vec<String>,
    /// The parameter `timeout`, which the batcher consumes.
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
            let v1 = Address { target: target(), label: None };
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

/// Returns the metadata of a model with these inputs: dimension 0 may vary, and every other dimension except the last.
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

/// Returns the little-endian bytes of a whole tensor.
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

/// Returns the elements as JSON, nested by `shape` (flat where it is empty or of rank 1).
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
