//! Reads gRPC inference requests and responses.

use bytes::Bytes;
use prost::Message;

use super::counts::memory_of_elements;
use super::{InferTensorContents, ModelInferRequest, ModelInferResponse, contents};
use crate::parameters::{from_grpc, lacks_values};
use crate::request::{Parts, ReadRequest};
use crate::tensor::checked_elements;
use crate::{
    Datatype, InferRequest, InferResponse, Limits, Parameters, ParseError, RequestedOutput, Target, Tensor,
    TensorData, WireFormat, transcode,
};

/// Reads a `ModelInferRequest` (without the 5-byte prefix: see [`crate::grpc::decode_unary`]).
///
/// # Errors
/// Returns [`ParseError`] where the request is malformed (forward it alone) or exceeds `limits` (answer it).
pub fn parse_grpc(message: Bytes, limits: &Limits) -> Result<InferRequest, ParseError> {
    CountedRequest::new(message, limits)?.parse()
}

/// An encoded `ModelInferRequest` within its limits, with the amount of memory that decoding it takes.
#[derive(Debug)]
pub struct CountedRequest {
    message: Bytes,
    limits: Limits,
    elements_bytes: usize,
}

impl CountedRequest {
    /// Counts what a message contains, without decoding it.
    ///
    /// # Errors
    /// See [`parse_grpc`].
    pub fn new(message: Bytes, limits: &Limits) -> Result<Self, ParseError> {
        if message.len() > limits.body_bytes {
            return Err(ParseError::too_large(message.len(), limits.body_bytes));
        }
        let elements_bytes = memory_of_elements(&message, limits)?;
        Ok(Self { message, limits: limits.clone(), elements_bytes })
    }

    /// Returns the bytes of memory that its elements take once they are decoded; 0 where all contents are raw.
    pub fn elements_bytes(&self) -> usize {
        self.elements_bytes
    }

    /// Decodes the request.
    ///
    /// # Errors
    /// See [`parse_grpc`].
    pub fn parse(self) -> Result<InferRequest, ParseError> {
        read_request(self.message, &self.limits)
    }
}

fn read_request(message: Bytes, limits: &Limits) -> Result<InferRequest, ParseError> {
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
    Ok(Parts { format: WireFormat::Grpc, target, read: Some(read), body, header_length: None }.assemble())
}

/// Reads a `ModelInferResponse`.
pub(super) fn read_response(message: Bytes) -> Result<InferResponse, ParseError> {
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

/// The values of `raw_input_contents` or `raw_output_contents`: one per tensor; `None` where the field is not used.
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
    // The data of a tensor in shared memory is not in the message, and the request is sent alone.
    if !shared_memory {
        transcode::check_raw(&data, datatype, elements).map_err(malformed)?;
    }
    Ok(Tensor { name, datatype, shape, parameters, data: TensorData::Raw(data) })
}
