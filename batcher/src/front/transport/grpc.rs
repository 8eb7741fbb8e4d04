//! Responses over gRPC: one message, and the status in trailers.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use sluice_protocol::grpc::{Code, encode_message, frame_prefix};
use sluice_protocol::{ResponsePart, WireFormat};

use super::retry_info::status_details;
use super::{ClientTransport, GRPC_MESSAGE, GRPC_STATUS, GRPC_STATUS_DETAILS, RETRY_AFTER_MS};
use crate::failure::Failure;
use crate::front::body::FrontBody;
use crate::hop_by_hop;
use crate::upstream::connection;

const GRPC_CONTENT: HeaderValue = HeaderValue::from_static("application/grpc");
/// Codings of a message that are understood.
const CODINGS: HeaderValue = HeaderValue::from_static("identity,gzip,deflate");

/// Maximum bytes of a model server's error in which its text is looked for.
const MOST_ERROR_BYTES: usize = 64 << 10;

/// gRPC over HTTP/2.
pub(super) struct Grpc;

impl ClientTransport for Grpc {
    fn part(&self, part: ResponsePart) -> Response<FrontBody> {
        message(part.chunks)
    }

    /// Passes a gRPC response on with its status, message, details and metadata.
    fn forwarded(&self, format: WireFormat, upstream: connection::UpstreamResponse) -> Response<FrontBody> {
        let http_status = upstream.status.as_u16();
        let mut headers = upstream.headers;
        let Some(code) = headers.remove(GRPC_STATUS) else {
            return self.failed(format, &Failure::new(http_status, error_text(&upstream.body)));
        };
        hop_by_hop::strip(&mut headers);
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::TRAILER);
        headers.insert(header::CONTENT_TYPE, GRPC_CONTENT);
        if Code::from_header(code.as_bytes()) == Code::Ok {
            let mut response = match frame_prefix(upstream.body.len()) {
                Ok(prefix) => message(vec![Bytes::copy_from_slice(&prefix), upstream.body]),
                Err(error) => return status(Code::Internal, &error.to_string()),
            };
            headers.remove(GRPC_MESSAGE);
            response.headers_mut().extend(headers);
            return response;
        }
        headers.insert(GRPC_STATUS, code);
        let mut response = Response::new(FrontBody::empty());
        *response.headers_mut() = headers;
        response
    }

    fn failed(&self, _format: WireFormat, failure: &Failure) -> Response<FrontBody> {
        let code = Code::from_http(failure.status);
        let mut response = status(code, &failure.message);
        if let Some(retry_after) = failure.retry_after {
            let headers = response.headers_mut();
            if let Some(details) = status_details(code, &failure.message, retry_after) {
                headers.insert(GRPC_STATUS_DETAILS, details);
            }
            headers.insert(RETRY_AFTER_MS, HeaderValue::from(retry_after.ms()));
        }
        response
    }

    fn unknown_coding(&self, _format: WireFormat, coding: &str, _failure: &Failure) -> Response<FrontBody> {
        let message = format!("messages with grpc-encoding {coding:?} are not understood here");
        let mut response = status(Code::Unimplemented, &message);
        response.headers_mut().insert("grpc-accept-encoding", CODINGS);
        response
    }
}

/// Returns the text of a V2 error object, or the body as it is.
fn error_text(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Error {
        error: String,
    }
    let body = &body[..body.len().min(MOST_ERROR_BYTES)];
    match serde_json::from_slice::<Error>(body) {
        Ok(error) => error.error,
        Err(_) => String::from_utf8_lossy(body).chars().take(1024).collect(),
    }
}

/// Returns a gRPC response of one message; `chunks` begin with its prefix.
fn message(chunks: Vec<Bytes>) -> Response<FrontBody> {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    let mut response = Response::new(FrontBody::with_trailers(chunks, trailers));
    response.headers_mut().insert(header::CONTENT_TYPE, GRPC_CONTENT);
    response
}

/// Returns a gRPC response of one small message.
pub(in crate::front) fn small(content: &impl prost::Message) -> Response<FrontBody> {
    let encoded = content.encode_to_vec();
    match frame_prefix(encoded.len()) {
        Ok(prefix) => message(vec![Bytes::copy_from_slice(&prefix), encoded.into()]),
        Err(error) => status(Code::Internal, &error.to_string()),
    }
}

/// Returns a gRPC response without a message: the status is in the headers ("trailers only").
pub(in crate::front) fn status(code: Code, message: &str) -> Response<FrontBody> {
    let mut response = Response::new(FrontBody::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, GRPC_CONTENT);
    headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(code.number())));
    if let Ok(message) = HeaderValue::from_str(&encode_message(message)) {
        headers.insert(GRPC_MESSAGE, message);
    }
    response
}
