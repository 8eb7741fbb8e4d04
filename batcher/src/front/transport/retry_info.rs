//! Time of the next try, as gRPC clients understand it: `google.rpc.RetryInfo` inside `google.rpc.Status`,
//! base64 in the header `grpc-status-details-bin`. The messages are those that are needed of googleapis'
//! `google/rpc/status.proto` and `error_details.proto`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::HeaderValue;
use prost::Message;
use sluice_protocol::grpc::Code;

use crate::retry_after::RetryAfter;

/// Type of a `RetryInfo` inside an `Any`.
const TYPE_URL: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Status {
    /// The number of the gRPC code.
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    /// Text of `grpc-message`.
    #[prost(string, tag = "2")]
    pub(super) message: String,
    /// Messages of any type.
    #[prost(message, repeated, tag = "3")]
    pub(super) details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Any {
    /// Type of the message.
    #[prost(string, tag = "1")]
    pub(super) type_url: String,
    /// The encoded message.
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RetryInfo {
    /// Minimum time to wait.
    #[prost(message, optional, tag = "1")]
    pub(super) retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Delay {
    /// Whole seconds.
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    /// Nanoseconds of the rest.
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}

/// Returns the value of `grpc-status-details-bin`.
pub(super) fn status_details(code: Code, message: &str, retry_after: RetryAfter) -> Option<HeaderValue> {
    let (seconds, nanos) = retry_after.seconds_and_nanos();
    let delay = Delay { seconds, nanos };
    let info = RetryInfo { retry_delay: Some(delay) };
    let status = Status {
        code: i32::from(code.number()),
        message: message.to_owned(),
        details: vec![Any { type_url: TYPE_URL.to_owned(), value: info.encode_to_vec() }],
    };
    HeaderValue::try_from(STANDARD_NO_PAD.encode(status.encode_to_vec())).ok()
}
