//! Front port of the model server: HTTP/1.1 and HTTP/2 with prior knowledge; REST and gRPC are told apart by path.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use serde_json::{Value, json};
use sluice_protocol::HEADER_LENGTH;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::batch::BadInput;
use super::body::{Body, bytes_response, json_response, read_body};
use super::openai_http::{self, Kind};
use super::rest_format::{self, error_body};
use super::service::{InferError, ModelService};
use super::{grpc_http, metadata};

/// What is in progress when the server is told to stop has this long to end.
const STOP_GRACE: Duration = Duration::from_secs(60);

/// Accepts until `stop` is cancelled, then ends what is in progress.
pub(super) async fn serve(listener: TcpListener, service: ModelService, stop: CancellationToken) {
    let service = Arc::new(service);
    let graceful = GracefulShutdown::new();
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(10_000);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "A connection could not be accepted.");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set.");
        }
        let service = Arc::clone(&service);
        let service = service_fn(move |request| {
            let service = Arc::clone(&service);
            async move { Ok::<_, Infallible>(answer(&service, request).await) }
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "A connection ended with an error.");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(STOP_GRACE, graceful.shutdown()).await.is_err() {
        tracing::warn!(grace_seconds = STOP_GRACE.as_secs(), "Connections were still busy and are cut off.");
    }
}

async fn answer(service: &ModelService, request: Request<Incoming>) -> Response<Body> {
    if request.uri().path().starts_with("/inference.GRPCInferenceService/") {
        return grpc_http::answer(service, request).await;
    }
    let path = request.uri().path().to_owned();
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (request.method(), segments.as_slice()) {
        (&Method::GET, ["v2"]) => json_response(StatusCode::OK, &metadata::server()),
        (&Method::GET, ["v2", "health", "live"]) => json_response(StatusCode::OK, &json!({ "live": true })),
        (&Method::GET, ["v2", "health", "ready"]) => ready(service, json!({ "ready": service.is_loaded() })),
        (&Method::GET, ["v2", "models", name]) => about(service, name, || metadata::model(name)),
        (&Method::GET, ["v2", "models", name, "versions", "1"]) => {
            about(service, name, || metadata::model(name))
        }
        (&Method::GET, ["v2", "models", name, "ready"]) => {
            if *name == service.model {
                ready(service, json!({ "name": name, "ready": service.is_loaded() }))
            } else {
                about(service, name, || Value::Null)
            }
        }
        (&Method::GET, ["v2", "models", name, "config"]) => {
            about(service, name, || metadata::config(name, service.limits.max_batch_rows))
        }
        (&Method::GET, ["v2", "models", name, "stats"]) => {
            about(service, name, || metadata::stats(name, &service.slot.accuracy()))
        }
        (&Method::GET, ["v1", "models"]) => openai_http::models(service),
        (&Method::POST, ["v1", "chat", "completions"]) => {
            openai_http::complete(service, Kind::Chat, request).await
        }
        (&Method::POST, ["v1", "completions"]) => openai_http::complete(service, Kind::Text, request).await,
        (&Method::POST, ["v2", "models", name, "infer"]) => infer(service, name, None, request).await,
        (&Method::POST, ["v2", "models", name, "versions", version, "infer"]) => {
            infer(service, name, Some(version), request).await
        }
        (method, _) => {
            let message =
                format!("{method} {path}: not a path of the Open Inference Protocol that is served here");
            bytes_response(StatusCode::NOT_FOUND, error_body(&message))
        }
    }
}

async fn infer(
    service: &ModelService,
    model: &str,
    version: Option<&str>,
    request: Request<Incoming>,
) -> Response<Body> {
    let answer = async {
        service.check(model, version)?;
        let json_bytes = json_bytes(&request)?;
        let body = read_body(request).await?;
        let call = rest_format::decode(&body, json_bytes, &service.limits)?;
        service.execute(call).await
    };
    let answer = match answer.await {
        Ok(answer) => answer,
        Err(error) => {
            let status = match error {
                InferError::Loading(_) | InferError::Slot(_) => StatusCode::SERVICE_UNAVAILABLE,
                InferError::UnknownModel { .. } => StatusCode::NOT_FOUND,
                InferError::BadInput(_) => StatusCode::BAD_REQUEST,
            };
            return bytes_response(status, error_body(&error.to_string()));
        }
    };
    let mut response = bytes_response(StatusCode::OK, answer.body);
    if let Some(json_bytes) = answer.json_bytes {
        let headers = response.headers_mut();
        headers.insert(HEADER_LENGTH, json_bytes.into());
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/octet-stream"));
    }
    response
}

/// Length of the JSON part, where the request says it.
fn json_bytes(request: &Request<Incoming>) -> Result<Option<usize>, BadInput> {
    let Some(value) = request.headers().get(HEADER_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    match length {
        Some(length) => Ok(Some(length)),
        None => Err(BadInput::Malformed(format!("{HEADER_LENGTH} is {value:?}, expected a number of bytes"))),
    }
}

fn ready(service: &ModelService, body: Value) -> Response<Body> {
    json_response(if service.is_loaded() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &body)
}

fn about(service: &ModelService, name: &str, body: impl FnOnce() -> Value) -> Response<Body> {
    if name == service.model {
        return json_response(StatusCode::OK, &body());
    }
    let message = InferError::UnknownModel { asked: name.to_owned(), name: service.model.clone() };
    bytes_response(StatusCode::NOT_FOUND, error_body(&message.to_string()))
}
