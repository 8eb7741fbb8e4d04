//! Outcome of one request, in the words of the whole project: *answered* is a correct answer; *rejected* a 429
//! (RESOURCE_EXHAUSTED); *lost* no answer, a reset, a time-out, 502, 503, 504, or a wrong answer. What is left, such
//! as a 400 or a 500, is *failed*: an answer, but not a correct one.

use serde::{Deserialize, Serialize};

/// Outcome of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Answered correctly.
    Answered,
    /// Rejected for overload: HTTP 429, gRPC RESOURCE_EXHAUSTED.
    Rejected,
    /// Answered with another error: its HTTP status or gRPC code.
    Failed(String),
    /// Lost: no correct answer arrived.
    Lost(LostKind),
}

/// The ways in which a request is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LostKind {
    /// No whole answer in time (DEADLINE_EXCEEDED and CANCELLED count as this).
    Timeout,
    /// No connection could be opened.
    Connect,
    /// The connection ended before the answer did.
    Reset,
    /// Status 502.
    BadGateway,
    /// Status 503, UNAVAILABLE.
    Unavailable,
    /// Status 504.
    GatewayTimeout,
    /// The response does not belong to this request, or its values are wrong.
    WrongAnswer,
    /// Never sent, because too many requests were in flight.
    Unsent,
}

impl LostKind {
    /// Returns the name used in reports.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::BadGateway => "bad_gateway",
            Self::Unavailable => "unavailable",
            Self::GatewayTimeout => "gateway_timeout",
            Self::WrongAnswer => "wrong_answer",
            Self::Unsent => "unsent",
        }
    }
}
