//! Error responses of the batcher itself: an error, or a rejection with the time after which to try again.

use crate::metrics::RejectReason;
use crate::retry_after::RetryAfter;

/// An error response of the batcher itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// HTTP status; gRPC clients get the corresponding code.
    pub status: u16,
    /// Message for the client.
    pub message: String,
    /// Time after which the client should try again; `None` if that would not help.
    pub retry_after: Option<RetryAfter>,
    /// Reason, if the request was rejected; `None` for any other error.
    pub refusal: Option<RejectReason>,
}

impl Failure {
    /// Creates an error that is not a rejection.
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), retry_after: None, refusal: None }
    }

    /// Creates a rejection, with the time after which to try again.
    pub fn refused(
        status: u16,
        reason: RejectReason,
        message: impl Into<String>,
        retry_after: RetryAfter,
    ) -> Self {
        Self { status, message: message.into(), retry_after: Some(retry_after), refusal: Some(reason) }
    }
}

/// Returns the message for a request whose model no ready server has, while `others` servers did not become ready.
pub fn missing_elsewhere(others: usize, hold_ms: u64) -> String {
    format!(
        "no model server that is ready has the model; not ready for it within {hold_ms} ms (holdMs): {others} others; /upstreams says why"
    )
}
