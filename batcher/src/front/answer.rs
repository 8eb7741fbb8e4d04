//! Answers in the client's form: HTTP status and JSON error, or gRPC status in trailers.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use sluice_protocol::grpc::{Code, encode_message, frame_prefix};
use sluice_protocol::{HEADER_LENGTH, WireFormat, json_error};

use super::body::FrontBody;
use super::retry_info::status_details;
use crate::failure::Failure;
use crate::hop_by_hop;
use crate::queue::Reply;
use crate::upstream::connection;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_STATUS_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
const INFERENCE_HEADER_LENGTH: HeaderName = HeaderName::from_static(HEADER_LENGTH);
const GRPC_CONTENT: HeaderValue = HeaderValue::from_static("application/grpc");
const JSON_CONTENT: HeaderValue = HeaderValue::from_static("application/json");

/// Most bytes of a model server's error that are looked at for its text.
const MOST_ERROR_BYTES: usize = 64 << 10;

/// The answer for a reply, and its HTTP status for the metrics (also of gRPC ones).
pub fn answer(form: WireFormat, reply: Reply) -> (Response<FrontBody>, u16) {
    match reply {
        Reply::Rows(rows) => {
            let response = match form {
                WireFormat::Grpc => grpc_message(rows.chunks),
                WireFormat::Json | WireFormat::Binary | WireFormat::V1 => {
                    let mut response = Response::new(FrontBody::pieces(rows.chunks));
                    let headers = response.headers_mut();
                    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(rows.content_type));
                    if let Some(length) = rows.header_length {
                        headers.insert(INFERENCE_HEADER_LENGTH, HeaderValue::from(length));
                    }
                    response
                }
            };
            (response, 200)
        }
        Reply::Forwarded(upstream) => forwarded(form, upstream),
        Reply::Failed(failure) => (failed(form, &failure), failure.status),
    }
}

/// The model server's own answer.
fn forwarded(form: WireFormat, upstream: connection::UpstreamResponse) -> (Response<FrontBody>, u16) {
    let status = upstream.status.as_u16();
    if form == WireFormat::Grpc {
        return (forwarded_grpc(upstream), status);
    }
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
    (response, status)
}

/// To a gRPC client: what was a gRPC answer keeps its status, message, details and metadata.
fn forwarded_grpc(upstream: connection::UpstreamResponse) -> Response<FrontBody> {
    let status = upstream.status.as_u16();
    let mut headers = upstream.headers;
    let Some(code) = headers.remove(GRPC_STATUS) else {
        return failed(WireFormat::Grpc, &Failure::new(status, error_text(&upstream.body)));
    };
    hop_by_hop::strip(&mut headers);
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::TRAILER);
    headers.insert(header::CONTENT_TYPE, GRPC_CONTENT);
    if Code::from_header(code.as_bytes()) == Code::Ok {
        let mut response = match frame_prefix(upstream.body.len()) {
            Ok(prefix) => grpc_message(vec![Bytes::copy_from_slice(&prefix), upstream.body]),
            Err(error) => return grpc_status(Code::Internal, &error.to_string()),
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

/// The text of a V2 error object, or the body as it is.
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

/// An error of the batcher's own.
pub fn failed(form: WireFormat, failure: &Failure) -> Response<FrontBody> {
    let mut response = match form {
        WireFormat::Grpc => grpc_status(Code::from_http(failure.status), &failure.message),
        WireFormat::Json | WireFormat::Binary | WireFormat::V1 => {
            let status = StatusCode::from_u16(failure.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            json(status, json_error(&failure.message))
        }
    };
    if let Some(retry_after) = failure.retry_after {
        let headers = response.headers_mut();
        if form == WireFormat::Grpc {
            let code = Code::from_http(failure.status);
            if let Some(details) = status_details(code, &failure.message, retry_after) {
                headers.insert(GRPC_STATUS_DETAILS, details);
            }
        } else {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after.seconds()));
        }
        headers.insert(RETRY_AFTER_MS, HeaderValue::from(retry_after.ms()));
    }
    response
}

/// A JSON answer.
pub fn json(status: StatusCode, body: Bytes) -> Response<FrontBody> {
    let mut response = Response::new(FrontBody::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON_CONTENT);
    response
}

/// A gRPC answer of one message; `chunks` begin with its prefix.
pub fn grpc_message(chunks: Vec<Bytes>) -> Response<FrontBody> {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    let mut response = Response::new(FrontBody::with_trailers(chunks, trailers));
    response.headers_mut().insert(header::CONTENT_TYPE, GRPC_CONTENT);
    response
}

/// A gRPC answer of one small message.
pub fn grpc_small(message: &impl prost::Message) -> Response<FrontBody> {
    let encoded = message.encode_to_vec();
    match frame_prefix(encoded.len()) {
        Ok(prefix) => grpc_message(vec![Bytes::copy_from_slice(&prefix), encoded.into()]),
        Err(error) => grpc_status(Code::Internal, &error.to_string()),
    }
}

/// A gRPC answer without a message: status in the headers ("trailers only").
pub fn grpc_status(code: Code, message: &str) -> Response<FrontBody> {
    let mut response = Response::new(FrontBody::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, GRPC_CONTENT);
    headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(code.number())));
    if let Ok(message) = HeaderValue::from_str(&encode_message(message)) {
        headers.insert(GRPC_MESSAGE, message);
    }
    response
}
