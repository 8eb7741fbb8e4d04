//! One answer → each client's rows in its own form.

use bytes::Bytes;

use crate::{AnswerError, Form, InferRequest, InferResponse, SplitError};

/// One client's answer (HTTP status 200, gRPC status 0).
#[derive(Debug, Clone)]
pub struct Answer {
    /// The client's form.
    pub form: Form,
    /// Value of `Inference-Header-Content-Length`; `None` where no output is raw.
    pub header_length: Option<usize>,
    /// Value of `Content-Type`.
    pub content_type: &'static str,
    /// The body, for a vectored write. gRPC: with the 5-byte prefix.
    pub chunks: Vec<Bytes>,
    /// Sum of the chunks' lengths.
    pub body_bytes: usize,
}

/// Shares an answer out by rows: one result per request, in their order. `requests` and `rows` are those of the batch
/// ([`crate::Merged::rows`]). Each answer has its client's form and id; model name, version and parameters are the upstream's.
///
/// NaN and infinities go to JSON clients as the bare words `NaN`, `Infinity` and `-Infinity`: not strict JSON, but what Triton, TensorFlow Serving and Python's `json`
/// write and read, so that the answer is the one that the client would have had directly.
///
/// # Errors
/// [`SplitError`]: an output has not one row per row of the batch; run the requests again singly. Within: [`AnswerError`] for
/// a client whose form cannot carry an output (answer it with 400).
pub fn split(
    response: &InferResponse,
    requests: &[&InferRequest],
    rows: &[usize],
) -> Result<Vec<Result<Answer, AnswerError>>, SplitError> {
    todo!()
}
