//! Bodies that the model server for tests reads and writes.

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::Value;

use super::Body;

/// An answer with large rows, written by hand: they come by the hundred.
pub(super) fn wide(name: &str, ids: &[i64], width: usize) -> String {
    let rows = ids.len();
    let twice = ids.iter().map(|id| format!("{},", id * 2).repeat(width)).collect::<String>();
    let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
    format!(
        r#"{{"model_name":"{name}","model_version":"1","outputs":[{{"name":"id","datatype":"INT64","shape":[{rows},1],"data":[{}]}},{{"name":"twice","datatype":"INT64","shape":[{rows},{width}],"data":[{}]}}]}}"#,
        ids.join(","),
        twice.trim_end_matches(',')
    )
}

/// The ids of a request, JSON or binary.
pub(super) fn read_ids(headers: &HeaderMap, body: &Bytes) -> Option<(Vec<i64>, &'static str)> {
    match headers.get("inference-header-content-length") {
        None => {
            let request: Value = serde_json::from_slice(body).ok()?;
            Some((flat(request.get("inputs")?.get(0)?.get("data")?), "json"))
        }
        Some(length) => {
            let length: usize = length.to_str().ok()?.parse().ok()?;
            let raw = body.slice(length..);
            let ids = raw.chunks_exact(8).map(|id| i64::from_le_bytes(id.try_into().unwrap())).collect();
            Some((ids, "binary"))
        }
    }
}

/// Elements of one row of the input.
pub(super) fn width(headers: &HeaderMap, body: &Bytes) -> usize {
    json_of(headers, body)["inputs"][0]["shape"][1].as_u64().unwrap_or(1) as usize
}

/// The JSON part of a request.
pub(super) fn json_of(headers: &HeaderMap, body: &Bytes) -> Value {
    let header_length = headers.get("inference-header-content-length");
    let header_length = header_length.and_then(|length| length.to_str().ok()?.parse().ok());
    serde_json::from_slice(&body[..header_length.unwrap_or(body.len())]).unwrap_or_default()
}

pub(super) fn flat(data: &Value) -> Vec<i64> {
    match data {
        Value::Array(items) => items.iter().flat_map(flat).collect(),
        other => other.as_i64().into_iter().collect(),
    }
}

/// What it received, as JSON, and the body behind it.
pub(super) async fn echo(request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut response = Response::new(Full::new(body).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert("x-method", parts.method.as_str().parse().unwrap());
    headers.insert("x-uri", parts.uri.to_string().parse().unwrap());
    for (name, value) in &parts.headers {
        let name = format!("x-got-{name}");
        headers.append(http::HeaderName::try_from(name).unwrap(), value.clone());
    }
    *response.status_mut() = StatusCode::IM_A_TEAPOT;
    response
}

pub(super) fn reply(status: u16, body: &str) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_owned())).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
    response
}
