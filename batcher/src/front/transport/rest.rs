//! Responses over HTTP: status, headers, and a JSON object where something failed.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use sluice_protocol::{ResponsePart, WireFormat};

use super::{
    ClientTransport, GRPC_MESSAGE, GRPC_STATUS, GRPC_STATUS_DETAILS, INFERENCE_HEADER_LENGTH, RETRY_AFTER_MS,
};
use crate::failure::Failure;
use crate::front::body::FrontBody;
use crate::hop_by_hop;
use crate::upstream::connection;

const JSON_CONTENT: HeaderValue = HeaderValue::from_static("application/json");
/// Codings of a body that are understood.
const CODINGS: HeaderValue = HeaderValue::from_static("gzip, deflate, zstd");

/// REST over HTTP/1.1 or HTTP/2.
pub(super) struct Rest;

impl ClientTransport for Rest {
    fn part(&self, part: ResponsePart) -> Response<FrontBody> {
        let mut response = Response::new(FrontBody::pieces(part.chunks));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(part.content_type));
        if let Some(length) = part.header_length {
            headers.insert(INFERENCE_HEADER_LENGTH, HeaderValue::from(length));
        }
        response
    }

    fn forwarded(&self, _format: WireFormat, upstream: connection::UpstreamResponse) -> Response<FrontBody> {
        let mut response = Response::new(FrontBody::from(upstream.body));
        *response.status_mut() = upstream.status;
        *response.headers_mut() = upstream.headers;
        hop_by_hop::strip(response.headers_mut());
        for name in [GRPC_STATUS, GRPC_MESSAGE, GRPC_STATUS_DETAILS] {
            response.headers_mut().remove(name);
        }
        // Written anew from the body, behind which no trailers follow.
        response.headers_mut().remove(header::CONTENT_LENGTH);
        response.headers_mut().remove(header::TRAILER);
        response
    }

    fn failed(&self, format: WireFormat, failure: &Failure) -> Response<FrontBody> {
        let status = StatusCode::from_u16(failure.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = json(status, format.protocol().error_body(&failure.message));
        if let Some(retry_after) = failure.retry_after {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after.seconds()));
            headers.insert(RETRY_AFTER_MS, HeaderValue::from(retry_after.ms()));
        }
        response
    }

    fn unknown_coding(&self, format: WireFormat, _coding: &str, failure: &Failure) -> Response<FrontBody> {
        let mut response = self.failed(format, failure);
        response.headers_mut().insert(header::ACCEPT_ENCODING, CODINGS);
        response
    }
}

/// Returns a JSON response.
pub(in crate::front) fn json(status: StatusCode, body: Bytes) -> Response<FrontBody> {
    let mut response = Response::new(FrontBody::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON_CONTENT);
    response
}
