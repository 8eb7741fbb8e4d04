//! Responses to clients: one trait of what differs between REST and gRPC, and its two implementations.
//!
//! | module | what is there |
//! |---|---|
//! | `rest` | HTTP statuses and JSON errors |
//! | `grpc` | gRPC statuses in trailers |
//! | `retry_info` | when a gRPC client may try again |

pub(super) mod grpc;
pub(super) mod rest;
mod retry_info;

use http::{HeaderName, Response};
use sluice_protocol::{HEADER_LENGTH, ResponsePart, Transport, WireFormat};

use super::body::FrontBody;
use crate::failure::Failure;
use crate::queue::Reply;
use crate::upstream::connection;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_STATUS_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
const INFERENCE_HEADER_LENGTH: HeaderName = HeaderName::from_static(HEADER_LENGTH);

/// Writes responses to clients of one transport.
trait ClientTransport: Sync {
    /// Writes a client's part of the response to its batch.
    fn part(&self, part: ResponsePart) -> Response<FrontBody>;

    /// Passes on a model server's own response.
    fn forwarded(&self, format: WireFormat, upstream: connection::UpstreamResponse) -> Response<FrontBody>;

    /// Writes an error of the batcher's own.
    fn failed(&self, format: WireFormat, failure: &Failure) -> Response<FrontBody>;

    /// Writes the error for a body in a `coding` that is not known here, with those that are.
    fn unknown_coding(&self, format: WireFormat, coding: &str, failure: &Failure) -> Response<FrontBody>;
}

fn of(format: WireFormat) -> &'static dyn ClientTransport {
    match format.protocol().transport() {
        Transport::Rest => &rest::Rest,
        Transport::Grpc => &grpc::Grpc,
    }
}

/// Returns the response for a reply, and its HTTP status for the metrics (also where it is a gRPC response).
pub(super) fn respond(format: WireFormat, reply: Reply) -> (Response<FrontBody>, u16) {
    match reply {
        Reply::Rows(part) => (of(format).part(part), 200),
        Reply::Forwarded(upstream) => {
            let status = upstream.status.as_u16();
            (of(format).forwarded(format, upstream), status)
        }
        Reply::Failed(failure) => (failed(format, &failure), failure.status),
    }
}

/// Writes an error of the batcher's own.
pub(super) fn failed(format: WireFormat, failure: &Failure) -> Response<FrontBody> {
    of(format).failed(format, failure)
}

/// Writes the error for a body in a `coding` that is not known here, with those that are.
pub(super) fn unknown_coding(format: WireFormat, coding: &str, failure: &Failure) -> Response<FrontBody> {
    of(format).unknown_coding(format, coding, failure)
}
