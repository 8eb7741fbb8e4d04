//! Accepts connections and hands each request to whom it belongs.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{HeaderValue, Request, Response, Version, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use metrics::counter;
use sluice_config::metric_names::batcher as names;
use sluice_protocol::Form;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Front;
use super::answer::failed;
use super::body::FrontBody;
use super::guarded::Guarded;
use super::observed::Observed;
use super::pace::Pace;
use super::route::{GrpcMethod, Route, route};
use crate::answers::stream_task::StreamExecutor;
use crate::answers::untaken::Client;
use crate::drain::Mode;
use crate::observe::{Sighting, orca};
use crate::queue::Failure;

/// Concurrent streams of one HTTP/2 connection.
const MAX_STREAMS: u32 = 1024;
/// Streams that a client may reset before they were looked at; more end the connection (rapid reset).
const MAX_UNSEEN_RESETS: usize = 64;
/// Streams that we may have to reset because of what the client did; more end the connection.
const MAX_FAULTY_STREAMS: usize = 256;
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
    let connections = &front.connections;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) if connections.len() >= front.settings.now().max_connections => {
                counter!(names::CONNECTIONS_CLOSED_TOTAL, "reason" => "limit").increment(1);
                refuse(&stream);
            }
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

/// Says why to those who speak HTTP/1.1; there is no waiting for a client that does not read.
fn refuse(stream: &TcpStream) {
    let _ = stream.try_write(
        b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 61\r\n\
          retry-after: 1\r\nconnection: close\r\n\r\n\
          {\"error\":\"there are too many connections (maxConnections)\"}\n\n",
    );
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
    let settings = front.settings.now();
    let pace = Pace::new(front.clock);
    let socket = Guarded::new(stream, Arc::clone(&pace), front.settings.clone(), front.clock);
    let service = {
        let pace = Arc::clone(&pace);
        service_fn(move |request: Request<Incoming>| {
            let (front, under_way, client) = (Arc::clone(&front), pace.enter(), Arc::clone(&pace.client));
            is_http2.store(request.version() == Version::HTTP_2, Ordering::Relaxed);
            async move {
                let (response, sighting) = front.observed(request, &client).await;
                let untaken = front.answers.begin(&client);
                Ok::<_, Infallible>(response.map(|body| Observed::new(body, under_way, sighting, untaken)))
            }
        })
    };
    let mut server = auto::Builder::new(StreamExecutor);
    server.http1().max_buf_size(settings.max_header_bytes);
    server
        .http2()
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(settings.max_header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(MAX_UNSEEN_RESETS)
        .max_local_error_reset_streams(MAX_FAULTY_STREAMS)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(socket), service));
    let driven = async {
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = async { tokio::select! { () = turned_away => {} () = stop.cancelled() => {} } } => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            () = pace.idle.notified() => {
                connection.as_mut().graceful_shutdown();
                let patience = Duration::from_millis(settings.header_timeout_ms);
                loop {
                    match timeout(patience, connection.as_mut()).await {
                        Ok(ended) => break ended,
                        // A client that does not close its side either is not waited for, unless it has just asked.
                        Err(_) if pace.quiet_since_us().is_some() => break Ok(()),
                        Err(_) => {}
                    }
                }
            }
        }
    };
    let ended = tokio::select! {
        ended = driven => ended,
        // Its client does not take its answers: there is nobody to say goodbye to.
        () = pace.client.closing() => Ok(()),
    };
    if let Err(error) = ended {
        tracing::debug!(error, "A client's connection ended.");
    }
}

impl Front {
    /// Answers one request, and observes it if that is wanted.
    async fn observed(
        &self,
        mut request: Request<Incoming>,
        client: &Client,
    ) -> (Response<FrontBody>, Option<Sighting>) {
        let wants_load = orca::wanted(request.headers());
        let form = if is_grpc(&request) { Form::Grpc } else { Form::Json };
        let mut sighting = self.observe.begin(&mut request);
        let mut response = match &sighting {
            _ if self.answers.is_beyond_part(client, 0) => untaken(form),
            None => self.serve(request).await,
            Some(sighting) => Box::pin(sighting.trail.scope(self.serve(request))).await,
        };
        // Its requests may all have come before the first of their answers.
        if self.answers.is_beyond_part(client, response.body().known_bytes()) {
            response = untaken(form);
        }
        if let Some(report) = wants_load.and_then(|format| self.registry.load().report(&format)) {
            response.headers_mut().insert(orca::REPORT, report);
        }
        if let Some(sighting) = &mut sighting {
            sighting.answered(&mut response);
        }
        (response, sighting)
    }

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
        match route(request.method(), request.uri().path(), is_grpc(&request)) {
            Route::Infer(target) => self.infer_rest(target, request).await,
            Route::Predict(target) => self.predict(target, request).await,
            Route::Stream { model } => self.stream(model, request).await,
            Route::Live => self.live(),
            Route::Ready => self.ready(self.is_ready()),
            Route::ModelReady { model } => self.model_ready(model),
            Route::Grpc(GrpcMethod::Infer) => self.infer_grpc(request).await,
            Route::Grpc(method) => self.grpc_health(method, request).await,
            Route::GrpcOther => self.pass_grpc(request).await,
            Route::Pass => self.pass(request).await,
        }
    }
}

fn is_grpc(request: &Request<Incoming>) -> bool {
    let content = request.headers().get(header::CONTENT_TYPE);
    content.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// The answer to a client that does not take those which it has.
fn untaken(form: Form) -> Response<FrontBody> {
    counter!(names::ANSWERS_GIVEN_UP_TOTAL, "reason" => "part").increment(1);
    let message = "this connection holds its part of answerBytes: take the answers that are ready first";
    failed(form, &Failure { retry_after_ms: Some(1000), ..Failure::new(429, message) })
}
