//! The server's sockets: HTTP/1.1 and HTTP/2 with prior knowledge on one port, REST and gRPC by path.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use serde_json::{Value, json};
use sluice_protocol::HEADER_LENGTH;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::batch::{BadInput, Limits};
use super::call::Call;
use super::generation::Generator;
use super::openai_http::{self, Kind};
use super::rest_form::{self, error_body};
use super::slot::{Refused, Slot};
use super::{grpc_http, metadata};

/// Largest body that is read.
pub(super) const BODY_LIMIT_BYTES: usize = 64 << 20;
/// What is in progress when the server is told to stop has this long to end.
const STOP_GRACE: Duration = Duration::from_secs(60);

/// Body of an answer: bytes, for gRPC with trailers.
pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What every connection answers from.
#[derive(Debug)]
pub(super) struct Front {
    /// The model's name in paths and messages.
    pub(super) model: String,
    /// Where calls are executed.
    pub(super) slot: Slot,
    /// Where text is generated.
    pub(super) generator: Generator,
    /// What calls are accepted.
    pub(super) limits: Limits,
    /// True once the (simulated) load is done.
    pub(super) loaded: tokio::sync::watch::Receiver<bool>,
}

/// Why an inference got no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum InferError {
    /// The model is not loaded yet.
    #[error("model `{0}` is still loading; ask /v2/health/ready")]
    Loading(String),
    /// The path names another model.
    #[error("model `{asked}` is unknown; this server has `{name}`, version 1")]
    UnknownModel {
        /// The name (and version) in the request.
        asked: String,
        /// The name of this server's model.
        name: String,
    },
    /// The request is wrong.
    #[error(transparent)]
    BadInput(#[from] BadInput),
    /// The slot did not take it.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl Front {
    /// Whether calls are executed already.
    pub(super) fn is_loaded(&self) -> bool {
        *self.loaded.borrow()
    }

    /// Refuses calls before the load is done and calls for other models.
    pub(super) fn check(&self, model: &str, version: Option<&str>) -> Result<(), InferError> {
        if model != self.model || !matches!(version, None | Some("" | "1")) {
            let asked = version.map_or(model.to_owned(), |version| format!("{model}, version {version}"));
            return Err(InferError::UnknownModel { asked, name: self.model.clone() });
        }
        if !self.is_loaded() {
            return Err(InferError::Loading(self.model.clone()));
        }
        Ok(())
    }

    /// Executes a call.
    pub(super) async fn execute(&self, call: Call) -> Result<super::call::Answer, InferError> {
        let answer = self.slot.execute(call)?;
        Ok(answer.await.map_err(|_| Refused::Stopping)?)
    }
}

/// Accepts until `stop` is cancelled, then ends what is in progress.
pub(super) async fn serve(listener: TcpListener, front: Front, stop: CancellationToken) {
    let front = Arc::new(front);
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
        let front = Arc::clone(&front);
        let service = service_fn(move |request| {
            let front = Arc::clone(&front);
            async move { Ok::<_, Infallible>(answer(&front, request).await) }
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

async fn answer(front: &Front, request: Request<Incoming>) -> Response<Body> {
    if request.uri().path().starts_with("/inference.GRPCInferenceService/") {
        return grpc_http::answer(front, request).await;
    }
    let path = request.uri().path().to_owned();
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (request.method(), segments.as_slice()) {
        (&Method::GET, ["v2"]) => json_answer(StatusCode::OK, &metadata::server()),
        (&Method::GET, ["v2", "health", "live"]) => json_answer(StatusCode::OK, &json!({ "live": true })),
        (&Method::GET, ["v2", "health", "ready"]) => ready(front, json!({ "ready": front.is_loaded() })),
        (&Method::GET, ["v2", "models", name]) => about(front, name, || metadata::model(name)),
        (&Method::GET, ["v2", "models", name, "versions", "1"]) => {
            about(front, name, || metadata::model(name))
        }
        (&Method::GET, ["v2", "models", name, "ready"]) => {
            if *name == front.model {
                ready(front, json!({ "name": name, "ready": front.is_loaded() }))
            } else {
                about(front, name, || Value::Null)
            }
        }
        (&Method::GET, ["v2", "models", name, "config"]) => {
            about(front, name, || metadata::config(name, front.limits.max_batch_rows))
        }
        (&Method::GET, ["v2", "models", name, "stats"]) => {
            about(front, name, || metadata::stats(name, &front.slot.accuracy()))
        }
        (&Method::GET, ["v1", "models"]) => openai_http::models(front),
        (&Method::POST, ["v1", "chat", "completions"]) => {
            openai_http::complete(front, Kind::Chat, request).await
        }
        (&Method::POST, ["v1", "completions"]) => openai_http::complete(front, Kind::Text, request).await,
        (&Method::POST, ["v2", "models", name, "infer"]) => infer(front, name, None, request).await,
        (&Method::POST, ["v2", "models", name, "versions", version, "infer"]) => {
            infer(front, name, Some(version), request).await
        }
        (method, _) => {
            let message =
                format!("{method} {path}: not a path of the Open Inference Protocol that is served here");
            bytes_answer(StatusCode::NOT_FOUND, error_body(&message))
        }
    }
}

async fn infer(
    front: &Front,
    model: &str,
    version: Option<&str>,
    request: Request<Incoming>,
) -> Response<Body> {
    let answer = async {
        front.check(model, version)?;
        let json_bytes = json_bytes(&request)?;
        let body = read_body(request).await?;
        let call = rest_form::decode(&body, json_bytes, &front.limits)?;
        front.execute(call).await
    };
    let answer = match answer.await {
        Ok(answer) => answer,
        Err(error) => {
            let status = match error {
                InferError::Loading(_) | InferError::Refused(_) => StatusCode::SERVICE_UNAVAILABLE,
                InferError::UnknownModel { .. } => StatusCode::NOT_FOUND,
                InferError::BadInput(_) => StatusCode::BAD_REQUEST,
            };
            return bytes_answer(status, error_body(&error.to_string()));
        }
    };
    let mut response = bytes_answer(StatusCode::OK, answer.body);
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

/// The whole body, up to [`BODY_LIMIT_BYTES`].
pub(super) async fn read_body(request: Request<Incoming>) -> Result<Bytes, BadInput> {
    let body = Limited::new(request.into_body(), BODY_LIMIT_BYTES).collect().await;
    Ok(body.map_err(|error| BadInput::Malformed(format!("cannot be read: {error}")))?.to_bytes())
}

fn ready(front: &Front, body: Value) -> Response<Body> {
    json_answer(if front.is_loaded() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &body)
}

fn about(front: &Front, name: &str, body: impl FnOnce() -> Value) -> Response<Body> {
    if name == front.model {
        return json_answer(StatusCode::OK, &body());
    }
    let message = InferError::UnknownModel { asked: name.to_owned(), name: front.model.clone() };
    bytes_answer(StatusCode::NOT_FOUND, error_body(&message.to_string()))
}

pub(super) fn json_answer(status: StatusCode, body: &Value) -> Response<Body> {
    bytes_answer(status, body.to_string().into())
}

fn bytes_answer(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(body).boxed_unsync());
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
