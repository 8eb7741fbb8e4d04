//! V2 REST: a JSON object, with raw tensors behind it where the binary tensor extension is used.

mod binary;
mod binary_batch;
mod document;
mod json_batch;
mod response;
mod tensors;
mod unchanged;

use bytes::Bytes;

pub use binary::{parse_binary, parse_raw};

use crate::request::Parts;
use crate::split::OutputPart;
use crate::wire_protocol::{Api, Batch, BatchBody, Transport, Unread};
use crate::{
    Address, InferRequest, InferResponse, Limits, MergeError, ParseError, PartError, ResponseError,
    ResponsePart, SequenceStep, Target, TensorData, WireFormat, WireProtocol,
};

/// V2 over REST: JSON, alone or with raw tensors behind it.
#[derive(Debug)]
pub(crate) struct Rest {
    has_raw_tensors: bool,
}

/// V2 JSON.
pub(crate) static JSON: Rest = Rest { has_raw_tensors: false };

/// V2 JSON with raw tensors behind it.
pub(crate) static BINARY: Rest = Rest { has_raw_tensors: true };

impl WireProtocol for Rest {
    fn name(&self) -> &'static str {
        if self.has_raw_tensors { "binary" } else { "json" }
    }

    fn transport(&self) -> Transport {
        Transport::Rest
    }

    fn api(&self) -> Api {
        Api::V2
    }

    fn carries_raw_tensors(&self) -> bool {
        self.has_raw_tensors
    }

    fn text_format(&self) -> Option<WireFormat> {
        Some(WireFormat::Json)
    }

    fn read_path(&self, path: &str) -> Option<Address> {
        Target::from_path(path).map(Address::from)
    }

    fn with_header_length(&self) -> Option<WireFormat> {
        Some(WireFormat::Binary)
    }

    fn rests_on_metadata(&self, header_length: Option<usize>) -> bool {
        self.has_raw_tensors && header_length == Some(0)
    }

    fn read_request(&self, unread: Unread<'_>) -> Result<InferRequest, ParseError> {
        let Unread { address: Address { target, .. }, header_length, body, limits, signature } = unread;
        match header_length.filter(|_| self.has_raw_tensors) {
            None => parse_json(target, body, limits),
            Some(0) => parse_raw(target, body, limits, signature),
            Some(length) => parse_binary(target, length, body, limits),
        }
    }

    fn sequence_step_of_unread(&self, header_length: Option<usize>, body: &Bytes) -> Option<SequenceStep> {
        sequence_step_of_unread(header_length, body)
    }

    fn path(&self, address: &Address) -> String {
        address.target.infer_path()
    }

    /// A batch of JSON clients alone is sent as JSON text.
    fn simpler_format(&self, requests: &[&InferRequest]) -> Option<WireFormat> {
        let is_json = || requests.iter().all(|request| is_json_throughout(request));
        (self.has_raw_tensors && is_json()).then_some(WireFormat::Json)
    }

    fn write_batch(&self, batch: &Batch<'_>) -> Result<BatchBody, MergeError> {
        if self.has_raw_tensors { binary_batch::write(batch) } else { json_batch::write(batch) }
    }

    fn unchanged_batch(
        &self,
        request: &InferRequest,
        upstream: WireFormat,
    ) -> Option<(BatchBody, WireFormat)> {
        unchanged::batch(request, upstream)
    }

    fn read_response(
        &self,
        header_length: Option<usize>,
        body: Bytes,
    ) -> Result<InferResponse, ResponseError> {
        read_response(header_length, body)
    }

    fn write_response(
        &self,
        response: &InferResponse,
        request: &InferRequest,
        outputs: &[OutputPart<'_>],
    ) -> Result<ResponsePart, PartError> {
        response::write(response, request, outputs)
    }

    fn unchanged_response(
        &self,
        request: &InferRequest,
        sent: WireFormat,
        header_length: Option<usize>,
        body: &Bytes,
    ) -> Option<ResponsePart> {
        unchanged::response(request, sent, header_length, body)
    }
}

/// Reads a V2 JSON inference request. `target` comes from the URL path.
///
/// # Errors
/// Returns [`ParseError`] where the request is malformed (forward it alone) or exceeds `limits` (answer it).
pub fn parse_json(target: &Target, body: Bytes, limits: &Limits) -> Result<InferRequest, ParseError> {
    if body.len() > limits.body_bytes {
        return Err(ParseError::too_large(body.len(), limits.body_bytes));
    }
    let read = tensors::read_request(&body, None, limits)?;
    Ok(Parts {
        format: WireFormat::Json,
        target: target.clone(),
        read: Some(read),
        body,
        header_length: None,
    }
    .assemble())
}

/// Reads a response: JSON alone, or `header_length` bytes of JSON and raw tensors behind them.
fn read_response(header_length: Option<usize>, body: Bytes) -> Result<InferResponse, ResponseError> {
    let read = match header_length {
        None => tensors::read_response(&body, None),
        Some(length) if length <= body.len() => {
            tensors::read_response(&body.slice(..length), Some(body.slice(length..)))
        }
        Some(length) => Err(ParseError::malformed(format!(
            "Inference-Header-Content-Length is {length}, but the body has {} bytes",
            body.len()
        ))),
    };
    read.map_err(|error| ResponseError(error.to_string()))
}

fn sequence_step_of_unread(header_length: Option<usize>, body: &Bytes) -> Option<SequenceStep> {
    SequenceStep::of_unread(body.get(..header_length.unwrap_or(body.len()))?)
}

/// Returns whether all inputs of a request are JSON text and its client wants all outputs as JSON.
fn is_json_throughout(request: &InferRequest) -> bool {
    !request.wants_any_raw()
        && request.inputs.iter().all(|input| matches!(input.data, TensorData::Json { .. }))
}

/// Returns the `Content-Type` of a body with this [`HEADER_LENGTH`](crate::HEADER_LENGTH).
fn content_type(header_length: Option<usize>) -> &'static str {
    if header_length.is_some() { "application/octet-stream" } else { "application/json" }
}
