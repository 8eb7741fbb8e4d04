//! What can be wrong with a request, a batch or a model server's response.

use bytes::Bytes;
use thiserror::Error;

/// A request that cannot be read. `Display` is fit for the client: which input, what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}{message}", match input { Some(name) => format!("input '{name}': "), None => String::new() })]
pub struct ParseError {
    /// What to do about it.
    pub kind: ParseErrorKind,
    /// The input that is wrong, where one is to blame.
    pub input: Option<String>,
    /// What is wrong and, where that is not plain, what would be right.
    pub message: String,
}

/// What the receiver of a bad request should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParseErrorKind {
    /// Not a valid request as far as we see. Forward it alone and untouched, so that the model server's own error text
    /// (or its more liberal reading) reaches the client; where that is not possible, answer 400.
    Malformed,
    /// Beyond [`crate::Limits`]: answer 413 or 400 here ([`ParseError::http_status`]) and do not forward it.
    Limit,
    /// The body is longer than [`crate::Limits::body_bytes`].
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

    /// Whether to forward the request alone and untouched rather than to answer it here.
    pub fn is_forwardable(&self) -> bool {
        self.kind == ParseErrorKind::Malformed
    }

    /// The HTTP status when it is answered here: 413 for a body too large, else 400. (gRPC: RESOURCE_EXHAUSTED,
    /// INVALID_ARGUMENT.)
    pub fn http_status(&self) -> u16 {
        if self.kind == ParseErrorKind::TooLarge { 413 } else { 400 }
    }
}

/// A batch that cannot be made because of one of its requests: send that one alone and merge the others again.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("request {index} of the batch cannot be merged: {reason}")]
pub struct MergeError {
    /// Position of the request to blame in the slice that was to be merged.
    pub index: usize,
    /// Input and reason, fit for the client.
    pub reason: String,
}

/// A model server's 200 response that is not a valid inference response.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the upstream's answer is not a valid inference response: {0}")]
pub struct ResponseError(pub String);

/// A valid response that cannot be split by rows: run the requests again singly, do not guess.
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

/// An output that cannot be written in one client's wire format (FP16, BF16 or non-UTF-8 BYTES in JSON); the other clients' responses can.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("output '{output}' cannot be written in the form of the request: {reason}")]
pub struct PartError {
    /// The output.
    pub output: String,
    /// Why.
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
