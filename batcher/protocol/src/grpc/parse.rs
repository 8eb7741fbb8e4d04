//! A gRPC inference request and response, read.

use bytes::{Buf, Bytes};
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::{InferTensorContents, ModelInferRequest, ModelInferResponse, contents};
use crate::json::tensors::ReadRequest;
use crate::parameters::{from_grpc, lacks_values};
use crate::request::Parts;
use crate::tensor::checked_elements;
use crate::{
    Datatype, Form, InferRequest, InferResponse, Limits, Parameters, ParseError, RequestedOutput, Target,
    Tensor, TensorData, limits, transcode,
};

/// Reads a `ModelInferRequest` (without the 5-byte prefix: see [`crate::grpc::decode_unary`]).
///
/// # Errors
/// [`ParseError`]: malformed (forward it alone) or beyond `limits` (answer it).
pub fn parse_grpc(message: Bytes, limits: &Limits) -> Result<InferRequest, ParseError> {
    if message.len() > limits.body_bytes {
        return Err(ParseError::too_large(message.len(), limits.body_bytes));
    }
    check_counts(message.clone(), limits)?;
    let body = message.clone();
    let request = ModelInferRequest::decode(message)
        .map_err(|error| ParseError::malformed(format!("not a valid ModelInferRequest: {error}")))?;

    let has_nulls = lacks_values(&request.parameters)
        || request.inputs.iter().any(|input| lacks_values(&input.parameters))
        || request.outputs.iter().any(|output| lacks_values(&output.parameters));
    let mut raw = RawContents::new(request.raw_input_contents, request.inputs.len())?;
    let inputs = request
        .inputs
        .into_iter()
        .map(|input| {
            let parts = (input.name, input.datatype, input.shape, from_grpc(input.parameters));
            tensor(parts, input.contents, &mut raw, limits)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let outputs = request.outputs.into_iter().map(|output| RequestedOutput {
        name: output.name,
        parameters: from_grpc(output.parameters),
        binary_data: None,
    });
    let read = ReadRequest {
        id: Some(request.id).filter(|id| !id.is_empty()),
        parameters: from_grpc(request.parameters),
        inputs,
        outputs: outputs.collect(),
        unknown_field: false,
        has_nulls,
    };
    let version = Some(request.model_version).filter(|version| !version.is_empty());
    let target = Target { model: request.model_name, version };
    Ok(Parts { form: Form::Grpc, target, read: Some(read), body, header_length: None }.assemble())
}

/// Bytes of a `ModelInferRequest` (or of a response) that reading it looks at: all but its raw contents. At most 1024
/// fields are told apart; what follows them is counted in any case.
pub fn bytes_to_read(message: &Bytes) -> usize {
    const RAW_INPUT_CONTENTS: u32 = 7;
    let mut rest = message.clone();
    let mut raw = 0;
    for _ in 0..1024 {
        let Ok((field, wire_type)) = decode_key(&mut rest) else { break };
        if wire_type != WireType::LengthDelimited {
            if skip_field(wire_type, field, &mut rest, DecodeContext::default()).is_err() {
                break;
            }
            continue;
        }
        let length = decode_varint(&mut rest).ok().and_then(|length| usize::try_from(length).ok());
        let Some(length) = length.filter(|&length| length <= rest.len()) else { break };
        rest.advance(length);
        raw += if field == RAW_INPUT_CONTENTS { length } else { 0 };
    }
    message.len() - raw
}

/// Reads a `ModelInferResponse`.
pub(crate) fn read_response(message: Bytes) -> Result<InferResponse, ParseError> {
    let response =
        ModelInferResponse::decode(message).map_err(|error| ParseError::malformed(error.to_string()))?;
    let mut raw = RawContents::new(response.raw_output_contents, response.outputs.len())?;
    let outputs = response
        .outputs
        .into_iter()
        .map(|output| {
            let parts = (output.name, output.datatype, output.shape, from_grpc(output.parameters));
            tensor(parts, output.contents, &mut raw, &Limits::UNBOUNDED)
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(InferResponse {
        model_name: Some(response.model_name),
        model_version: Some(response.model_version).filter(|version| !version.is_empty()),
        parameters: from_grpc(response.parameters),
        outputs,
        v1: None,
    })
}

/// `raw_input_contents` or `raw_output_contents`: one per tensor, or none at all.
struct RawContents(Option<std::vec::IntoIter<Bytes>>);

impl RawContents {
    fn new(raw: Vec<Bytes>, tensors: usize) -> Result<Self, ParseError> {
        match raw.len() {
            0 => Ok(Self(None)),
            count if count == tensors => Ok(Self(Some(raw.into_iter()))),
            count => Err(ParseError::malformed(format!("{count} raw contents for {tensors} tensors"))),
        }
    }
}

fn tensor(
    (name, datatype, shape, parameters): (String, String, Vec<i64>, Parameters),
    contents: Option<InferTensorContents>,
    raw: &mut RawContents,
    limits: &Limits,
) -> Result<Tensor, ParseError> {
    let at = |error: ParseError| error.at(&name);
    let malformed = |message: String| ParseError::malformed(message).at(&name);
    let datatype = Datatype::from_name(&datatype)
        .ok_or_else(|| malformed(format!("datatype '{datatype}' is not known")))?;
    let shape = shape
        .iter()
        .map(|&dim| u64::try_from(dim))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| malformed(format!("shape {shape:?} has a negative dimension")))?;
    let elements = checked_elements(&shape, limits).map_err(at)?;
    let shared_memory = parameters.contains_key("shared_memory_region");
    let data = match (raw.0.as_mut().and_then(Iterator::next), contents) {
        (Some(_), Some(_)) => return Err(malformed("has both typed and raw contents".into())),
        (Some(raw), None) => raw,
        (None, Some(contents)) => contents::to_raw(&contents, datatype).map_err(malformed)?,
        (None, None) => Bytes::new(),
    };
    // Shared memory: there is nothing to read here, and the request goes alone.
    if !shared_memory {
        transcode::check_raw(&data, datatype, elements).map_err(malformed)?;
    }
    Ok(Tensor { name, datatype, shape, parameters, data: TensorData::Raw(data) })
}

/// Counts the tensors and parameters of an encoded `ModelInferRequest` before memory is spent on them: an empty
/// one takes 2 bytes on the wire and a hundred here.
fn check_counts(message: Bytes, limits: &Limits) -> Result<(), ParseError> {
    let (mut tensors, mut parameters) = ([0usize; 8], 0usize);
    walk(message, |field, content| {
        if let Some(count) = tensors.get_mut(field as usize) {
            *count += 1;
        }
        // Request parameters are field 4, those of an input field 4 in field 5, those of an output field 2 in field 6.
        let nested = match field {
            4 => {
                parameters += 1;
                return check_parameters(parameters, limits);
            }
            5 => 4,
            6 => 2,
            _ => return Ok(()),
        };
        let mut own = 0usize;
        walk(content, |field, _| {
            own += usize::from(field == nested);
            check_parameters(own, limits)
        })
    })?;
    let [.., inputs, outputs, raw] = tensors;
    if inputs.max(outputs).max(raw) > limits.tensors {
        return Err(ParseError::limit(format!("more than {} tensors ({})", limits.tensors, limits::TENSORS)));
    }
    Ok(())
}

fn check_parameters(count: usize, limits: &Limits) -> Result<(), ParseError> {
    if count > limits.parameters {
        let (most, setting) = (limits.parameters, limits::PARAMETERS);
        return Err(ParseError::limit(format!("more than {most} parameters ({setting})")));
    }
    Ok(())
}

/// Shows `visit` each field of a message that has a length, by number and content, without copying; skips the others.
fn walk(
    mut message: Bytes,
    mut visit: impl FnMut(u32, Bytes) -> Result<(), ParseError>,
) -> Result<(), ParseError> {
    let malformed =
        |error: prost::DecodeError| ParseError::malformed(format!("not a valid ModelInferRequest: {error}"));
    while message.has_remaining() {
        let (field, wire_type) = decode_key(&mut message).map_err(malformed)?;
        if wire_type == WireType::LengthDelimited {
            let length = decode_varint(&mut message).map_err(malformed)?;
            let length = usize::try_from(length).ok().filter(|&length| length <= message.len());
            let length = length.ok_or_else(|| ParseError::malformed("the message is cut off"))?;
            visit(field, message.split_to(length))?;
        } else {
            skip_field(wire_type, field, &mut message, DecodeContext::default()).map_err(malformed)?;
        }
    }
    Ok(())
}
