//! Accepts connections and hands each request to whom it belongs.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{HeaderValue, Request, Response, Version, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Front;
use super::body::FrontBody;
use super::route::{GrpcMethod, Route, route};
use crate::drain::Mode;

/// Concurrent streams of one HTTP/2 connection.
const MAX_STREAMS: u32 = 1024;
/// Receive windows of HTTP/2: large tensors must not wait for window updates.
const WINDOW_BYTES: u32 = 4 << 20;
/// An HTTP/2 connection that is made while traffic is turned away is for the few requests of those who have not
/// heard of it: it is told to go after so long.
const LATE_CONNECTION: Duration = Duration::from_millis(500);
/// Pause when no connection can be accepted (out of file descriptors, as a rule).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stop` is cancelled; then open connections are closed gracefully (GOAWAY, `Connection: close`)
/// once their requests are answered. Returns when all are closed.
pub async fn serve(listener: TcpListener, front: Arc<Front>, stop: CancellationToken) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(connection(stream, Arc::clone(&front), stop.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "The front port could not accept a connection.");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    connections.close();
    connections.wait().await;
}

async fn connection(stream: TcpStream, front: Arc<Front>, stop: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set.");
    }
    let mut mode = front.drain.subscribe();
    let late = *mode.borrow() != Mode::Serving;
    let is_http2 = Arc::new(AtomicBool::new(false));
    let turned_away = {
        let is_http2 = Arc::clone(&is_http2);
        async move {
            let _ = mode.wait_for(|mode| *mode != Mode::Serving).await;
            if late {
                tokio::time::sleep(LATE_CONNECTION).await;
            }
            // Only HTTP/2 can be closed without a race against the next request; of HTTP/1.1 each answer says so.
            if !is_http2.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        }
    };
    let service = service_fn(move |request: Request<Incoming>| {
        let front = Arc::clone(&front);
        is_http2.store(request.version() == Version::HTTP_2, Ordering::Relaxed);
        async move { Ok::<_, Infallible>(front.serve(request).await) }
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http2().max_concurrent_streams(MAX_STREAMS);
    server.http2().initial_stream_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
    let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = async { tokio::select! { () = turned_away => {} () = stop.cancelled() => {} } } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "A client's connection ended.");
    }
}

impl Front {
    /// Answers one request.
    async fn serve(&self, request: Request<Incoming>) -> Response<FrontBody> {
        let _active = self.drain.enter();
        let http1 = request.version() < Version::HTTP_2;
        let mut response = self.dispatch(request).await;
        if http1 && self.drain.mode() != Mode::Serving {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn dispatch(&self, request: Request<Incoming>) -> Response<FrontBody> {
        let is_grpc = request
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
        match route(request.method(), request.uri().path(), is_grpc) {
            Route::Infer(target) => self.infer_rest(target, request).await,
            Route::Predict(target) => self.predict(target, request).await,
            Route::Live => self.live(),
            Route::Ready => self.ready(self.is_ready()),
            Route::ModelReady { model } => self.ready(self.is_model_ready(model)),
            Route::Grpc(GrpcMethod::Infer) => self.infer_grpc(request).await,
            Route::Grpc(method) => self.grpc_health(method, request).await,
            Route::GrpcOther => self.pass_grpc(request).await,
            Route::Pass => self.pass(request).await,
        }
    }
}
