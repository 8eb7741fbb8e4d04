//! The upstream's answer.

use bytes::Bytes;

use crate::{Parameters, ResponseError, Tensor, WireFormat};

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
    pub(crate) v1: Option<crate::v1::TextResponse>,
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
    format.protocol().read_response(header_length, body)
}
