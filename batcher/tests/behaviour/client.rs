//! A client of the batcher: REST and gRPC.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use serde_json::{Value, json};
use sluice_protocol::grpc::{self, ModelInferRequest, ModelInferResponse, frame_prefix, model_infer_request};
use tokio::net::TcpStream;

#[derive(Debug, Clone)]
pub struct Got {
    pub status: u16,
    pub headers: HeaderMap,
    pub trailers: HeaderMap,
    pub body: Bytes,
}

impl Got {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// `grpc-status`, from trailers or headers.
    pub fn grpc_status(&self) -> u8 {
        let value = self.trailers.get("grpc-status").or(self.headers.get("grpc-status"));
        value.expect("a grpc-status").to_str().unwrap().parse().unwrap()
    }

    /// The data of a JSON answer's output.
    pub fn output(&self, name: &str) -> Vec<i64> {
        let answer: Value = serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?}"));
        let outputs = answer["outputs"].as_array().unwrap_or_else(|| panic!("{self:?}"));
        let output = outputs.iter().find(|output| output["name"] == name).unwrap();
        output["data"].as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect()
    }
}

/// Sends one request over a new connection; returns the head of the answer, whose body is still to come.
pub async fn open(address: SocketAddr, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    sender.send_request(request).await
}

/// Sends one request over a new connection.
pub async fn try_send(address: SocketAddr, request: Request<Full<Bytes>>) -> hyper::Result<Got> {
    read(open(address, request).await?).await
}

pub async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> Got {
    try_send(address, request).await.unwrap()
}

async fn read(response: Response<Incoming>) -> hyper::Result<Got> {
    let (parts, body) = response.into_parts();
    let collected = body.collect().await?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    Ok(Got { status: parts.status.as_u16(), headers: parts.headers, trailers, body: collected.to_bytes() })
}

pub fn request(method: &str, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::builder().method(method).uri(path).header("host", "test").body(Full::new(body.into())).unwrap()
}

pub async fn get(address: SocketAddr, path: &str) -> Got {
    send(address, request("GET", path, "")).await
}

/// Sends a `GET`; `None` if no process listens or there is no answer.
pub async fn try_get(address: SocketAddr, path: &str) -> Option<Got> {
    drop(TcpStream::connect(address).await.ok()?);
    try_send(address, request("GET", path, "")).await.ok()
}

pub async fn post(address: SocketAddr, path: &str, body: impl Into<Bytes>) -> Got {
    send(address, request("POST", path, body)).await
}

/// A V2 JSON request with these rows.
pub fn json_body(ids: &[i64]) -> String {
    json!({"id": format!("r{}", ids[0]), "inputs":
        [{"name": "id", "datatype": "INT64", "shape": [ids.len(), 1], "data": ids}]})
    .to_string()
}

pub async fn infer_json(address: SocketAddr, model: &str, ids: &[i64]) -> Got {
    post(address, &format!("/v2/models/{model}/infer"), json_body(ids)).await
}

pub async fn infer_binary(address: SocketAddr, model: &str, ids: &[i64]) -> Got {
    let head = json!({"inputs": [{"name": "id", "datatype": "INT64", "shape": [ids.len(), 1],
        "parameters": {"binary_data_size": ids.len() * 8}}]})
    .to_string();
    let mut body = head.clone().into_bytes();
    ids.iter().for_each(|id| body.extend_from_slice(&id.to_le_bytes()));
    let mut request = request("POST", &format!("/v2/models/{model}/infer"), body);
    request.headers_mut().insert("inference-header-content-length", head.len().into());
    send(address, request).await
}

pub async fn grpc(address: SocketAddr, method: &str, message: &impl Message) -> Got {
    let encoded = message.encode_to_vec();
    let mut body = frame_prefix(encoded.len()).unwrap().to_vec();
    body.extend_from_slice(&encoded);
    grpc_framed(address, method, body, &[]).await
}

/// Sends one request over a new HTTP/2 connection. If the target is only a path, its authority is its `Host`, or this
/// address.
pub async fn send_http2(address: SocketAddr, mut request: Request<Full<Bytes>>) -> Got {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    if request.uri().authority().is_none() {
        let host = request.headers_mut().remove("host");
        let host = host.map_or(address.to_string(), |host| host.to_str().unwrap().to_owned());
        *request.uri_mut() = format!("http://{host}{}", request.uri()).parse().unwrap();
    }
    read(sender.send_request(request).await.unwrap()).await.unwrap()
}

/// A gRPC call with this body, whatever it is.
pub async fn grpc_framed(address: SocketAddr, method: &str, body: Vec<u8>, headers: &[(&str, &str)]) -> Got {
    let mut request =
        Request::builder().method("POST").uri(method).header("te", "trailers").header("x-client", "test");
    if !headers.iter().any(|(name, _)| *name == "content-type") {
        request = request.header("content-type", "application/grpc");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send_http2(address, request.body(Full::new(Bytes::from(body))).unwrap()).await
}

/// A `ModelInfer` message with these rows.
pub fn infer_message(model: &str, ids: &[i64]) -> ModelInferRequest {
    let raw: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    ModelInferRequest {
        model_name: model.to_owned(),
        inputs: vec![model_infer_request::InferInputTensor {
            name: "id".into(),
            datatype: "INT64".into(),
            shape: vec![ids.len() as i64, 1],
            ..Default::default()
        }],
        raw_input_contents: vec![raw.into()],
        ..Default::default()
    }
}

pub async fn infer_grpc(address: SocketAddr, model: &str, ids: &[i64]) -> Got {
    grpc(address, grpc::path::MODEL_INFER, &infer_message(model, ids)).await
}

/// The raw INT64 output of a gRPC answer.
pub fn grpc_output(got: &Got, name: &str) -> Vec<i64> {
    assert_eq!(got.grpc_status(), 0, "{got:?}");
    let message = grpc::decode_unary(got.body.clone(), 1 << 20).unwrap();
    let answer = ModelInferResponse::decode(message).unwrap();
    let index = answer.outputs.iter().position(|output| output.name == name).unwrap();
    answer.raw_output_contents[index]
        .chunks_exact(8)
        .map(|id| i64::from_le_bytes(id.try_into().unwrap()))
        .collect()
}
