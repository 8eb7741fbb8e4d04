//! The upstream's answer.

use bytes::Bytes;

use crate::grpc::parse::read_response as read_grpc;
use crate::json::tensors::read_response as read_json;
use crate::{Parameters, ParseError, ResponseError, Tensor, WireFormat};

/// A parsed inference response.
#[derive(Debug, Clone)]
pub struct InferResponse {
    /// Name of the model that answered.
    pub model_name: Option<String>,
    /// Its version.
    pub model_version: Option<String>,
    /// Parameters of the response; every client of the batch gets them.
    pub parameters: Parameters,
    /// Outputs in the upstream's order.
    pub outputs: Vec<Tensor>,
    /// The answer of a V1 path, which has no tensors.
    pub(crate) v1: Option<crate::v1::Response>,
}

/// Reads the body of the upstream's 200 answer. `format`: [`crate::Merged::format`]. `header_length`: the answer's
/// `Inference-Header-Content-Length`, where it has one. gRPC: the message without its 5-byte prefix.
///
/// # Errors
/// [`ResponseError`]: not a valid response; run the requests again singly.
pub fn parse_response(
    format: WireFormat,
    header_length: Option<usize>,
    body: Bytes,
) -> Result<InferResponse, ResponseError> {
    if format == WireFormat::V1 {
        let v1 = crate::v1::read_response(body)?;
        let (model_name, model_version) = (None, None);
        let (parameters, outputs) = (Parameters::new(), Vec::new());
        return Ok(InferResponse { model_name, model_version, parameters, outputs, v1: Some(v1) });
    }
    let read = match (format, header_length) {
        (WireFormat::Grpc, _) => read_grpc(body),
        (_, None) => read_json(&body, None),
        (_, Some(length)) if length <= body.len() => {
            read_json(&body.slice(..length), Some(body.slice(length..)))
        }
        (_, Some(length)) => Err(ParseError::malformed(format!(
            "Inference-Header-Content-Length is {length}, but the body has {} bytes",
            body.len()
        ))),
    };
    read.map_err(|error| ResponseError(error.to_string()))
}
