//! The webhook: HTTPS for the API server.
//!
//! | module | what is there |
//! |---|---|
//! | this | connections, TLS, paths |
//! | [`review`] | from a question to its answer |
//! | [`lookup`] | what an answer needs of the API server |

pub mod lookup;
pub mod review;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::certificates::Served;
use crate::inject::Sidecar;
use crate::metrics;
use lookup::Lookup;
use review::Hook;

/// Most connections at once: API servers keep a few each.
const MAX_CONNECTIONS: usize = 512;
/// An object that the API server takes has at most 3 MiB, and a review has it twice at most.
const MAX_BODY_BYTES: usize = 8 << 20;
/// How long a handshake, or the head of a request, may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long open requests may take when the process ends.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// What answers are made from.
pub struct Webhook {
    /// What every sidecar is like.
    pub sidecar: Sidecar,
    /// What the API server knows.
    pub lookup: Arc<dyn Lookup>,
}

/// Serves until `stop` is cancelled; then open requests are answered and connections closed.
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
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "The webhook could not accept a connection.");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Beyond the limit a connection is closed at once: waiting would only hide the leak.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (acceptor, webhook, stop) = (acceptor.clone(), Arc::clone(&webhook), stop.clone());
        connections.spawn(async move {
            connection(stream, acceptor, webhook, stop).await;
            drop(place);
        });
    }
    connections.close();
    let _ = tokio::time::timeout(LAST_ANSWERS, connections.wait()).await;
    Ok(())
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    webhook: Arc<Webhook>,
    stop: CancellationToken,
) {
    let stream = match tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "A TLS handshake failed.");
            return;
        }
        Err(_) => return,
    };
    let service = service_fn(move |request| {
        let webhook = Arc::clone(&webhook);
        async move { Ok::<_, Infallible>(webhook.answer(request).await) }
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    server.http2().timer(TokioTimer::new());
    let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "A connection of the webhook ended.");
    }
}

impl Webhook {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let hook = match request.uri().path() {
            review::GATE_PATH => Hook::Gate,
            review::SIDECAR_PATH => Hook::Sidecar,
            path => {
                let text = format!(
                    "there is no {path}; there are {} and {}\n",
                    review::GATE_PATH,
                    review::SIDECAR_PATH
                );
                return plain(StatusCode::NOT_FOUND, text);
            }
        };
        if request.method() != Method::POST {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "an AdmissionReview comes by POST\n".to_owned());
        }
        let body = match Limited::new(request.into_body(), MAX_BODY_BYTES).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                let text = format!("an AdmissionReview has at most {MAX_BODY_BYTES} bytes\n");
                return plain(StatusCode::PAYLOAD_TOO_LARGE, text);
            }
            Err(error) => return plain(StatusCode::BAD_REQUEST, format!("the body is not whole: {error}\n")),
        };
        let begun = Instant::now();
        let answer = review::answer(hook, &body, &self.sidecar, self.lookup.as_ref()).await;
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
