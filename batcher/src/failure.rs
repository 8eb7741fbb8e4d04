//! An answer of the batcher's own: an error, or a refusal with the time after which to try again.

use crate::metrics::RejectReason;
use crate::retry_after::RetryAfter;

/// An answer of the batcher's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// HTTP status; gRPC clients get the corresponding code.
    pub status: u16,
    /// What happened, for the client.
    pub message: String,
    /// Time after which the client should try again; `None` where that would not help.
    pub retry_after: Option<RetryAfter>,
    /// Set where the request was refused for overload.
    pub refusal: Option<RejectReason>,
}

impl Failure {
    /// An error that is not a refusal.
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), retry_after: None, refusal: None }
    }

    /// A refusal, with the time after which to try again.
    pub fn refused(
        status: u16,
        reason: RejectReason,
        message: impl Into<String>,
        retry_after: RetryAfter,
    ) -> Self {
        Self { status, message: message.into(), retry_after: Some(retry_after), refusal: Some(reason) }
    }
}

/// Words for a request whose model the servers that are ready lack, while so many others were not ready.
pub fn missing_elsewhere(others: usize, hold_ms: u64) -> String {
    format!(
        "no model server that is ready has the model; not ready for it within {hold_ms} ms (holdMs): {others} others; /upstreams says why"
    )
}
