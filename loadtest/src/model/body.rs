//! Bodies of requests and responses on the server's port.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde_json::Value;

use super::batch::BadInput;

/// Maximum size of a request body.
pub(super) const BODY_LIMIT_BYTES: usize = 64 << 20;

/// Body of a response: bytes, for gRPC with trailers.
pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Reads the whole body of a request, up to [`BODY_LIMIT_BYTES`].
pub(super) async fn read_body(request: Request<Incoming>) -> Result<Bytes, BadInput> {
    let body = Limited::new(request.into_body(), BODY_LIMIT_BYTES).collect().await;
    Ok(body.map_err(|error| BadInput::Malformed(format!("cannot be read: {error}")))?.to_bytes())
}

pub(super) fn json_response(status: StatusCode, body: &Value) -> Response<Body> {
    bytes_response(status, body.to_string().into())
}

pub(super) fn bytes_response(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(body).boxed_unsync());
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
