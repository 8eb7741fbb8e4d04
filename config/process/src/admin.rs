//! The admin port: `/metrics`, `/livez`, `/readyz`, and what a program adds. It has a listener of its own,
//! so that it answers while the main port is saturated and is never exposed with it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioExecutor;
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::Readiness;
use super::connections::Patience;
use super::connections::serve::{Port, accept_all};
use super::metrics::Metrics;
use super::openmetrics;

/// Rules of the port: a scraper, probes and a person have room to spare. Scrapers that keep their connection ask at
/// least once a minute.
const PORT: Port = Port {
    name: "admin",
    limit: 64,
    patience: Patience {
        head: Duration::from_secs(10),
        idle: Duration::from_secs(90),
        answer: Duration::from_secs(30),
    },
};

/// Address of the client; an extension of each request of the admin port.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Response of the admin port.
pub type AdminResponse = Response<Full<Bytes>>;

/// Routes that a program adds to its admin port.
#[async_trait]
pub trait AdminRoutes: Send + Sync + 'static {
    /// Refreshes gauges that are computed on demand, before each scrape.
    async fn before_scrape(&self) {}

    /// Checks that the program works, for `/livez`.
    ///
    /// # Errors
    /// Text for the prober: what the program fails to do.
    async fn alive(&self) -> Result<(), String> {
        Ok(())
    }

    /// Answers a request that the admin port itself does not know; `None` becomes a 404.
    async fn handle(&self, request: Request<Incoming>) -> Option<AdminResponse> {
        let _ = request;
        None
    }
}

/// Routes of a program without paths of its own.
#[derive(Debug, Clone, Copy)]
pub struct NoRoutes;

impl AdminRoutes for NoRoutes {}

/// Services of an admin port.
#[derive(Clone)]
pub struct Admin {
    /// Metrics for `/metrics`.
    pub metrics: Metrics,
    /// Readiness for `/readyz`.
    pub readiness: Readiness,
    /// Routes for everything else.
    pub routes: Arc<dyn AdminRoutes>,
}

/// Serves until `stop` is cancelled.
pub async fn serve(listener: TcpListener, admin: Admin, stop: CancellationToken) {
    let server = auto::Builder::new(TokioExecutor::new()).http1_only();
    accept_all(listener, PORT, &stop, |connection, stream| {
        let (admin, server) = (admin.clone(), server.clone());
        async move {
            let peer = Peer(connection.peer);
            let stream = connection.watch(stream);
            let answer = |mut request: Request<Incoming>| {
                let admin = admin.clone();
                request.extensions_mut().insert(peer);
                async move { answer(&admin, request).await }
            };
            connection.serve(stream, &server, answer).await;
        }
    })
    .await;
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

/// Creates a plain-text response.
pub fn plain(status: StatusCode, body: impl Into<String>) -> AdminResponse {
    text(status, "text/plain; charset=utf-8", body.into())
}

/// Creates a JSON response; a 500 if the body cannot be written as JSON.
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
