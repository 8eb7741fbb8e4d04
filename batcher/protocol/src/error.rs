//! Errors of requests, batches and model servers' responses.

use bytes::Bytes;
use thiserror::Error;

/// A request that cannot be read. Its text is meant for the client: it names the input and says what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}{message}", match input { Some(name) => format!("input '{name}': "), None => String::new() })]
pub struct ParseError {
    /// How to treat the request.
    pub kind: ParseErrorKind,
    /// The faulty input, where the error is in one.
    pub input: Option<String>,
    /// What is wrong and, where that is not obvious, what would be right.
    pub message: String,
}

/// Kind of a [`ParseError`]: how its receiver should treat the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParseErrorKind {
    /// The request is not valid here. Forward it alone and unchanged, so that the model server's own error (or its response,
    /// if it reads more liberally) reaches the client; where that is not possible, answer 400.
    Malformed,
    /// The request exceeds [`crate::Limits`]: answer it with [`ParseError::http_status`] and do not forward it.
    Limit,
    /// The body is longer than [`crate::Limits::body_bytes`], or its elements would take more memory than that: answer it as
    /// with [`ParseErrorKind::Limit`].
    TooLarge,
}

impl ParseError {
    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self { kind: ParseErrorKind::Malformed, input: None, message: message.into() }
    }

    pub(crate) fn limit(message: impl Into<String>) -> Self {
        Self { kind: ParseErrorKind::Limit, input: None, message: message.into() }
    }

    pub(crate) fn too_large(bytes: usize, limit: usize) -> Self {
        let message = format!("the body has {bytes} bytes, the limit is {limit}");
        Self { kind: ParseErrorKind::TooLarge, input: None, message }
    }

    pub(crate) fn too_many_elements(limit: usize) -> Self {
        let message = format!(
            "the elements take more than {limit} bytes once they are read (maxBodyBytes); send raw contents"
        );
        Self { kind: ParseErrorKind::TooLarge, input: None, message }
    }

    pub(crate) fn at(mut self, input: &str) -> Self {
        self.input = Some(input.to_owned());
        self
    }

    /// Returns whether to forward the request alone and unchanged instead of answering it.
    pub fn is_forwardable(&self) -> bool {
        self.kind == ParseErrorKind::Malformed
    }

    /// Returns the HTTP status to answer with: 413 for a body that is too large, otherwise 400. (In gRPC these are
    /// RESOURCE_EXHAUSTED and INVALID_ARGUMENT.)
    pub fn http_status(&self) -> u16 {
        if self.kind == ParseErrorKind::TooLarge { 413 } else { 400 }
    }
}

/// A batch that cannot be made because of one of its requests: send that request alone and merge the others again.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("request {index} of the batch cannot be merged: {reason}")]
pub struct MergeError {
    /// Position of that request in the slice that was to be merged.
    pub index: usize,
    /// Input and reason, in words for the client.
    pub reason: String,
}

/// A model server's 200 response that is not a valid inference response.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the upstream's answer is not a valid inference response: {0}")]
pub struct ResponseError(pub String);

/// A valid response that cannot be split by rows: send the requests again, each alone.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("output '{output}' has shape {shape:?}, which does not begin with the batch's {rows} rows")]
pub struct SplitError {
    /// The output that does not have one row per row of the batch.
    pub output: String,
    /// Its shape.
    pub shape: Vec<u64>,
    /// Rows of the batch.
    pub rows: usize,
}

/// An output that cannot be written in one client's wire format (FP16, BF16 or non-UTF-8 BYTES in JSON). The responses to
/// the other clients of the batch are not affected.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("output '{output}' cannot be written in the wire format of the request: {reason}")]
pub struct PartError {
    /// Name of the output.
    pub output: String,
    /// Why it cannot be written.
    pub reason: String,
}

/// Returns the error object of both REST protocols: `{"error":"…"}`.
pub fn json_error(message: &str) -> Bytes {
    Bytes::from(serde_json::json!({ "error": message }).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_object_holds_any_text() {
        assert_eq!(json_error("a \"b\""), r#"{"error":"a \"b\""}"#);
    }
}
