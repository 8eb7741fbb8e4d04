//! A model server's response.

use bytes::Bytes;

use crate::{Parameters, ResponseError, Tensor, WireFormat};

/// A parsed inference response.
#[derive(Debug, Clone)]
pub struct InferResponse {
    /// Name of the model, where the response gives it.
    pub model_name: Option<String>,
    /// Version of the model, where the response gives it.
    pub model_version: Option<String>,
    /// Parameters of the response, which every client of the batch gets.
    pub parameters: Parameters,
    /// Outputs, in the model server's order.
    pub outputs: Vec<Tensor>,
    /// Content of a response of a V1 path, which has no tensors.
    pub(crate) v1: Option<crate::v1::TextResponse>,
}

/// Reads the body of a model server's response with status 200; of gRPC the message without its 5-byte prefix. `format`:
/// [`crate::Merged::format`]. `header_length`: the response's `Inference-Header-Content-Length`, where it has one.
///
/// # Errors
/// Returns [`ResponseError`] where the response is not valid: send the requests again, each alone.
pub fn parse_response(
    format: WireFormat,
    header_length: Option<usize>,
    body: Bytes,
) -> Result<InferResponse, ResponseError> {
    format.protocol().read_response(header_length, body)
}
