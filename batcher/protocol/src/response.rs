//! The upstream's answer.

use bytes::Bytes;

use crate::{Parameters, ResponseError, Tensor, UpstreamForm};

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
}

/// Reads the body of the upstream's 200 answer. `form`: [`crate::Merged::form`]. `header_length`: the answer's
/// `Inference-Header-Content-Length`, where it has one. gRPC: the message without its 5-byte prefix.
///
/// # Errors
/// [`ResponseError`]: not a valid response; run the requests again singly.
pub fn parse_response(
    form: UpstreamForm,
    header_length: Option<usize>,
    body: Bytes,
) -> Result<InferResponse, ResponseError> {
    todo!()
}
