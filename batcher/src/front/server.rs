//! Accepts connections and dispatches each request to the room that serves it.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, Version, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use metrics::counter;
use sluice_config::metric_names::batcher as names;
use sluice_process::connections::accept::Acceptor;
use sluice_process::connections::serve::until_idle;
use sluice_process::connections::{Admission, Connections, Place};
use sluice_process::files;
use sluice_protocol::WireFormat;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Front;

use super::authority::{self, Misaddressed};
use super::body::FrontBody;
use super::claims::{join_cookies, strip_claims};
use super::connection_activity::ConnectionActivity;
use super::observed::Observed;
use super::route::{GrpcMethod, Route, route};
use super::strict_connection::StrictConnection;
use super::transport::failed;
use crate::answers::stream_task::StreamExecutor;
use crate::answers::untaken::Client;
use crate::drain::Mode;
use crate::failure::Failure;
use crate::media_type::{self, Grpc};
use crate::observe::{Observation, orca};
use crate::queue::caller::ConnectionNumber;
use crate::retry_after::RetryAfter;

/// Maximum concurrent streams of one HTTP/2 connection.
const MAX_STREAMS: u32 = 1024;
/// Maximum streams that a client resets before the batcher has accepted them; more end the connection (rapid reset
/// attack).
const MAX_UNSEEN_RESETS: usize = 64;
/// Maximum streams that the batcher resets because of a client's errors; more end the connection.
const MAX_FAULTY_STREAMS: usize = 256;
/// Bytes of the receive windows of HTTP/2: large, so that large tensors do not wait for window updates.
const WINDOW_BYTES: u32 = 4 << 20;
/// Age at which an HTTP/2 connection is closed that was opened during a drain. It is there for the few requests of
/// clients that have not noticed the drain yet.
const LATE_CONNECTION: Duration = Duration::from_millis(500);
/// Files that the batcher needs for itself: connections of the admin port, connections of slots, logs.
const OWN_FILES: u64 = 128;

/// Serves until `stop` is cancelled; then open connections are closed gracefully (GOAWAY, `Connection: close`)
/// once their requests are answered. Returns when all connections are closed.
pub async fn serve(listener: TcpListener, front: Arc<Front>, stop: CancellationToken) {
    let tasks = &front.connections;
    let connections = Connections::default();
    let mut acceptor = Acceptor::new(listener, "front");
    let allowed = allowed_by_files(files::limit());
    warn_of_files(front.settings.now().limits.max_connections, allowed);
    loop {
        let (stream, peer) = tokio::select! {
            accepted = acceptor.accept(&connections) => accepted,
            () = stop.cancelled() => break,
        };
        let limit = front.settings.now().limits.max_connections.min(allowed);
        let activity = ConnectionActivity::new(front.clock);
        match connections.admit(peer, Arc::clone(&activity) as _, limit) {
            Admission::Admitted { place, evicted } => {
                if evicted > 0 {
                    counter!(names::CONNECTIONS_CLOSED_TOTAL, "reason" => "evicted")
                        .increment(evicted as u64);
                    acceptor.is_full(limit, evicted);
                }
                tasks.spawn(connection(stream, activity, place, Arc::clone(&front), stop.clone()));
            }
            Admission::Refused => {
                counter!(names::CONNECTIONS_CLOSED_TOTAL, "reason" => "limit").increment(1);
                acceptor.is_full(limit, 0);
                refuse(&stream);
            }
        }
    }
    tasks.close();
    tasks.wait().await;
}

/// Returns the maximum connections of clients for a limit of open files (`None`: no limit): half of the files that the
/// batcher does not need for itself, because a request that is passed on needs a connection to its model server too.
fn allowed_by_files(files: Option<u64>) -> usize {
    let allowed = files.map_or(u64::MAX, |files| files.saturating_sub(OWN_FILES) / 2).max(1);
    usize::try_from(allowed).unwrap_or(usize::MAX)
}

fn warn_of_files(max_connections: usize, allowed: usize) {
    if max_connections > allowed {
        let needed_files = (max_connections as u64).saturating_mul(2).saturating_add(OWN_FILES);
        tracing::warn!(
            max_connections,
            allowed,
            needed_files,
            "maxConnections is more than the limit of open files allows, which holds; raise that limit (ulimit -n, LimitNOFILE)."
        );
    }
}

/// Writes the reason to a client that is refused, as an HTTP/1.1 response, without waiting for a client that does not
/// read.
fn refuse(stream: &TcpStream) {
    let seconds = RetryAfter::UNPREDICTED.seconds();
    let response = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 61\r\n\
         retry-after: {seconds}\r\nconnection: close\r\n\r\n\
         {{\"error\":\"there are too many connections (maxConnections)\"}}\n\n",
    );
    let _ = stream.try_write(response.as_bytes());
}

async fn connection(
    stream: TcpStream,
    activity: Arc<ConnectionActivity>,
    place: Place,
    front: Arc<Front>,
    stop: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "Failed to set TCP_NODELAY on a client's connection.");
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
            // Only HTTP/2 can be closed without a race against the client's next request. In HTTP/1.1 each response
            // announces the close.
            if !is_http2.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        }
    };
    let settings = front.settings.now();
    let socket = StrictConnection::new(stream, Arc::clone(&activity), front.settings.clone(), front.clock);
    let service = {
        let activity = Arc::clone(&activity);
        let number = ConnectionNumber::next();
        service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(number);
            let (front, under_way, client) =
                (Arc::clone(&front), activity.enter(), Arc::clone(&activity.client));
            is_http2.store(request.version() == Version::HTTP_2, Ordering::Relaxed);
            async move {
                let (response, sighting) = front.observed(request, &client).await;
                let untaken = front.answers.begin(&client);
                Ok::<_, Infallible>(response.map(|body| Observed::new(body, under_way, sighting, untaken)))
            }
        })
    };
    let mut server = auto::Builder::new(StreamExecutor);
    server.http1().max_buf_size(settings.limits.max_header_bytes);
    server
        .http2()
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(settings.limits.max_header_bytes).unwrap_or(u32::MAX))
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
            () = place.evicted() => {
                connection.as_mut().graceful_shutdown();
                until_idle(connection.as_mut(), &*activity).await.unwrap_or(Ok(()))
            }
            () = activity.idle.notified() => {
                connection.as_mut().graceful_shutdown();
                let patience = Duration::from_millis(settings.timeouts.header_timeout_ms);
                loop {
                    match timeout(patience, connection.as_mut()).await {
                        Ok(ended) => break ended,
                        // A client that does not close its side is not waited for, unless it has just sent a request.
                        Err(_) if activity.quiet_since_us().is_some() => break Ok(()),
                        Err(_) => {}
                    }
                }
            }
        }
    };
    let ended = tokio::select! {
        ended = driven => ended,
        // The client does not take its responses, so a graceful close would not reach it.
        () = activity.client.closing() => Ok(()),
    };
    if let Err(error) = ended {
        tracing::debug!(error, "A client's connection ended with an error.");
    }
}

impl Front {
    /// Answers one request, and observes it where observation is on.
    async fn observed(
        &self,
        mut request: Request<Incoming>,
        client: &Client,
    ) -> (Response<FrontBody>, Option<Observation>) {
        let wants_load = orca::wanted(request.headers());
        let is_grpc = matches!(media_type::grpc(request.headers()), Grpc::Proto | Grpc::OtherCoding);
        let error_format = if is_grpc { WireFormat::Grpc } else { WireFormat::Json };
        let mut sighting = self.observe.begin(&mut request);
        let mut response = match &sighting {
            _ if self.answers.is_beyond_part(client, 0) => untaken(error_format),
            None => self.serve(request).await,
            Some(sighting) => Box::pin(sighting.trail.scope(self.serve(request))).await,
        };
        // Checked again, because all requests of a connection may have arrived before their first response.
        if self.answers.is_beyond_part(client, response.body().known_bytes()) {
            response = untaken(error_format);
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

    async fn dispatch(&self, mut request: Request<Incoming>) -> Response<FrontBody> {
        if let Err(error) = authority::check(&request) {
            return misaddressed(request.version(), &error);
        }
        strip_claims(request.headers_mut(), &self.settings.now());
        join_cookies(&mut request);
        let coding = media_type::grpc(request.headers());
        if coding == Grpc::Lookalike {
            return no_grpc();
        }
        let is_post = request.method() == Method::POST;
        let is_other_grpc = coding == Grpc::OtherCoding && is_post;
        let is_grpc = coding == Grpc::Proto && is_post;
        let route = route(request.method(), request.uri().path(), is_grpc);
        let error_format = if is_grpc || is_other_grpc { WireFormat::Grpc } else { WireFormat::Json };
        if let Some(failure) = self.forbidden(&route, &request) {
            return failed(error_format, &failure);
        }
        if is_other_grpc {
            return self.pass_grpc(request).await;
        }
        match route {
            Route::Infer(format, address) => self.infer_rest(format, address, request).await,
            Route::Stream { model } => self.stream(model, request).await,
            Route::Live => self.live(),
            Route::Ready => self.ready(self.is_ready()),
            Route::ModelReady { model, version } => self.model_ready(&model, version.as_deref()).await,
            Route::Grpc(GrpcMethod::Infer) => self.infer_grpc(request).await,
            Route::Grpc(method) => self.grpc_health(method, request).await,
            Route::GrpcOther => self.pass_grpc(request).await,
            Route::Pass => self.pass(request).await,
        }
    }
}

/// Answers a request whose host is not valid. An HTTP/1 connection is closed after it: a reader that sees another host
/// may also see other requests.
fn misaddressed(version: Version, error: &Misaddressed) -> Response<FrontBody> {
    let mut response = failed(WireFormat::Json, &Failure::new(400, error.to_string()));
    if version < Version::HTTP_2 {
        counter!(names::CONNECTIONS_CLOSED_TOTAL, "reason" => "malformed").increment(1);
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Answers a request whose content type looks like gRPC but is not: with HTTP status 415, as gRPC's specification asks.
fn no_grpc() -> Response<FrontBody> {
    let message = "this content-type is not gRPC (application/grpc or application/grpc+proto); gRPC-Web must be \
                   translated before it comes here, such as by Envoy's grpc_web filter";
    failed(WireFormat::Json, &Failure::new(415, message))
}

/// Returns the rejection of a client that does not take the responses that are ready.
fn untaken(format: WireFormat) -> Response<FrontBody> {
    counter!(names::ANSWERS_GIVEN_UP_TOTAL, "reason" => "part").increment(1);
    let message = "this connection holds its part of answerBytes: take the answers that are ready first";
    failed(format, &Failure { retry_after: Some(RetryAfter::UNPREDICTED), ..Failure::new(429, message) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_files_that_are_left_are_for_clients() {
        assert_eq!(allowed_by_files(Some(256)), 64);
        assert_eq!(allowed_by_files(Some(1_048_576)), 524_224);
        assert_eq!(allowed_by_files(Some(10)), 1);
        assert_eq!(allowed_by_files(None), usize::MAX);
    }
}
