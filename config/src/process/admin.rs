//! The admin port: `/metrics`, `/livez`, `/readyz`, and what a program adds. It has a listener of its own,
//! so that it answers while the main port is saturated and is never exposed with it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Readiness;
use super::metrics::Metrics;
use super::openmetrics;

/// Most connections at once: a scraper, probes and a person, with room to spare.
const MAX_CONNECTIONS: usize = 64;
/// A client that has not sent its request's head by then is cut off.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// An answer of the admin port.
pub type AdminResponse = Response<Full<Bytes>>;

/// What a program adds to its admin port.
#[async_trait]
pub trait AdminRoutes: Send + Sync + 'static {
    /// Refreshes gauges that are computed on demand, before each scrape.
    async fn before_scrape(&self) {}

    /// Whether the program does its work, for `/livez`; the error says what it does not.
    async fn alive(&self) -> Result<(), String> {
        Ok(())
    }

    /// Answers a path that the admin port itself does not know; `None` is a 404.
    async fn handle(&self, request: Request<Incoming>) -> Option<AdminResponse> {
        let _ = request;
        None
    }
}

/// A program without paths of its own.
#[derive(Debug, Clone, Copy)]
pub struct NoRoutes;

impl AdminRoutes for NoRoutes {}

/// What the admin port answers from.
#[derive(Clone)]
pub struct Admin {
    /// For `/metrics`.
    pub metrics: Metrics,
    /// For `/readyz`.
    pub readiness: Readiness,
    /// Everything else.
    pub routes: Arc<dyn AdminRoutes>,
}

/// Serves until `stop` is cancelled.
pub async fn serve(listener: TcpListener, admin: Admin, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, as a rule: others must close before a retry can succeed.
                tracing::warn!(%error, "The admin port could not accept a connection.");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Beyond the limit a connection is closed at once: waiting would only hide the leak.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let admin = admin.clone();
        let stop = stop.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let admin = admin.clone();
                async move { Ok::<_, Infallible>(answer(&admin, request).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            tokio::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => {}
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
            }
            drop(place);
        });
    }
}

async fn answer(admin: &Admin, request: Request<Incoming>) -> AdminResponse {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => {
            let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
            let open = accept.is_some_and(openmetrics::is_preferred);
            admin.routes.before_scrape().await;
            let rendered = admin.metrics.render();
            if open {
                text(StatusCode::OK, openmetrics::CONTENT_TYPE, openmetrics::from_prometheus(&rendered))
            } else {
                text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", rendered)
            }
        }
        (&Method::GET, "/livez") => match admin.routes.alive().await {
            Ok(()) => plain(StatusCode::OK, "ok\n"),
            Err(reason) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("not alive: {reason}\n")),
        },
        (&Method::GET, "/readyz") => match admin.readiness.get() {
            Ok(()) => plain(StatusCode::OK, "ok\n"),
            Err(reason) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
        },
        _ => match admin.routes.handle(request).await {
            Some(response) => response,
            None => plain(StatusCode::NOT_FOUND, "not found; try /metrics, /livez or /readyz\n"),
        },
    }
}

/// A plain-text answer.
pub fn plain(status: StatusCode, body: impl Into<String>) -> AdminResponse {
    text(status, "text/plain; charset=utf-8", body.into())
}

/// A JSON answer.
pub fn json(status: StatusCode, body: &impl serde::Serialize) -> AdminResponse {
    match serde_json::to_string(body) {
        Ok(body) => text(status, "application/json", body),
        Err(error) => {
            plain(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot be written as JSON: {error}\n"))
        }
    }
}

fn text(status: StatusCode, content_type: &'static str, body: String) -> AdminResponse {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}
