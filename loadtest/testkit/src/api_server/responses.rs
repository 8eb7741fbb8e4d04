//! Responses of the server.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

pub(super) type Response = http::Response<UnsyncBoxBody<Bytes, Infallible>>;

pub(super) fn document(status: u16, document: &Value) -> Response {
    text(status, &document.to_string())
}

pub(super) fn text(status: u16, body: &str) -> Response {
    let body = Full::new(Bytes::from(body.to_owned())).boxed_unsync();
    http::Response::builder().status(status).body(body).unwrap()
}

/// Returns a `Status` object, as Kubernetes does for every error.
pub(super) fn failure(status: u16, reason: &str, message: &str, name: &str) -> Response {
    let object = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "reason": reason,
        "message": message, "details": {"name": name},
    });
    document(status, &object)
}
