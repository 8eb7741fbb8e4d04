//! The webhook: HTTPS for the API server.
//!
//! | module | content |
//! |---|---|
//! | this | connections, TLS, paths |
//! | [`review`] | from an AdmissionReview to its response |
//! | `hints` | responses that only warn |
//! | [`lookup`] | reads that a response needs of the API server |

mod hints;
pub mod lookup;
pub mod review;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioExecutor;
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use sluice_process::connections::Patience;
use sluice_process::connections::serve::{Port, accept_all};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::certificates::Served;
use crate::inject::Sidecar;
use crate::metrics;
use lookup::Lookup;
use review::Hook;

/// Rules of the port: API servers keep a few connections each, and use them again after minutes.
const PORT: Port = Port {
    name: "webhook",
    limit: 512,
    patience: Patience {
        head: Duration::from_secs(10),
        idle: Duration::from_secs(300),
        answer: Duration::from_secs(30),
    },
};
/// Concurrent requests of one HTTP/2 connection: each may hold a body in memory.
const MAX_STREAMS: u32 = 100;
/// An object that the API server takes has at most 3 MiB, and a review has it twice at most.
const MAX_BODY_BYTES: usize = 8 << 20;
/// Time limit for receiving a body: API servers send it at once, and wait 30 s at most for the response.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Time that open requests have to finish when the process ends.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// The webhook's service.
pub struct Webhook {
    /// Settings of the sidecars.
    pub sidecar: Sidecar,
    /// Namespace in which Sluice itself runs; its pods are left alone.
    pub namespace: String,
    /// Reads objects of the API server.
    pub lookup: Arc<dyn Lookup>,
}

/// Serves until `stop` is cancelled, then answers open requests and closes connections.
///
/// # Errors
/// When TLS cannot be set up.
pub async fn serve(
    listener: TcpListener,
    webhook: Webhook,
    served: Arc<Served>,
    stop: CancellationToken,
) -> Result<(), rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(served);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let webhook = Arc::new(webhook);
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http2().max_concurrent_streams(MAX_STREAMS);
    let connections = accept_all(listener, PORT, &stop, |connection, stream| {
        let (acceptor, webhook, server) = (acceptor.clone(), Arc::clone(&webhook), server.clone());
        async move {
            let stream = connection.watch(stream);
            let stream = match connection.before_requests(acceptor.accept(stream)).await {
                Some(Ok(stream)) => stream,
                Some(Err(error)) => {
                    tracing::debug!(%error, "A TLS handshake failed.");
                    return;
                }
                None => return,
            };
            let answer = |request| {
                let webhook = Arc::clone(&webhook);
                async move { webhook.answer(request).await }
            };
            connection.serve(stream, &server, answer).await;
        }
    })
    .await;
    let _ = tokio::time::timeout(LAST_ANSWERS, connections.wait()).await;
    Ok(())
}

impl Webhook {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let hook = match request.uri().path() {
            review::GATE_PATH => Hook::Gate,
            review::SIDECAR_PATH => Hook::Sidecar,
            review::HINTS_PATH => Hook::Hints,
            path => {
                let text = format!(
                    "there is no {path}; there are {}, {} and {}\n",
                    review::GATE_PATH,
                    review::SIDECAR_PATH,
                    review::HINTS_PATH
                );
                return plain(StatusCode::NOT_FOUND, text);
            }
        };
        if request.method() != Method::POST {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "an AdmissionReview comes by POST\n".to_owned());
        }
        let receiving = Limited::new(request.into_body(), MAX_BODY_BYTES).collect();
        let Ok(received) = tokio::time::timeout(BODY_TIMEOUT, receiving).await else {
            let text = format!("the body did not come within {} s\n", BODY_TIMEOUT.as_secs());
            return plain(StatusCode::REQUEST_TIMEOUT, text);
        };
        let body = match received {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                let text = format!("an AdmissionReview has at most {MAX_BODY_BYTES} bytes\n");
                return plain(StatusCode::PAYLOAD_TOO_LARGE, text);
            }
            Err(error) => return plain(StatusCode::BAD_REQUEST, format!("the body is not whole: {error}\n")),
        };
        let begun = Instant::now();
        let answer = review::answer(hook, &body, &self.sidecar, self.lookup.as_ref(), &self.namespace).await;
        metrics::admission(hook.name(), answer.outcome, begun.elapsed());
        match answer.body {
            Ok(json) => respond(StatusCode::OK, "application/json", Bytes::from(json)),
            Err(text) => plain(StatusCode::BAD_REQUEST, text),
        }
    }
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", Bytes::from(text))
}

fn respond(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}
