//! Relays HTTP/1.1 requests unchanged to a model server (gRPC is in `relay_grpc`). Connections are kept for reuse; each
//! carries one request at a time and belongs to the epoch that it was verified for.

use std::sync::{Arc, Mutex, PoisonError};

use http::{Request, Response, StatusCode, header};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;

use super::connection::Wire;
use super::endpoint::{Endpoint, Stream};
use super::hang_up::HangUp;
use super::relay_body::RelayBody;
use super::relay_grpc::IdleGrpc;
use super::{ConnectError, Epoch, Upstream};
use crate::upload::Upload;

/// Maximum number of idle connections of each kind that are kept per upstream.
pub(super) const MAX_IDLE: usize = 16;
/// Maximum bytes that a connection buffers of an answer while the client takes nothing.
pub const BUFFER_BYTES: u32 = 128 << 10;
/// Size of the read buffer of an HTTP/1.1 connection: half, because it reads ahead while earlier data waits to be
/// taken.
const HTTP1_BUFFER_BYTES: usize = BUFFER_BYTES as usize / 2;

/// Idle connections of one upstream.
#[derive(Debug, Default)]
pub(super) struct Connections {
    idle: Mutex<Vec<Idle>>,
    pub(super) grpc: Mutex<Vec<IdleGrpc>>,
}

/// An HTTP/1.1 connection between two requests.
#[derive(Debug)]
struct Idle {
    /// Number of the epoch that the connection belongs to.
    epoch: u64,
    sender: http1::SendRequest<RelayBody<Upload>>,
    /// Task that drives the connection.
    driver: AbortHandle,
}

/// Why a request was not passed on.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// No connection could be used; nothing was sent.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection broke.
    #[error("the model server's connection broke: {0}")]
    Broken(#[from] hyper::Error),
    /// The model server sent an interim response (1xx) instead of a final one, although no protocol switch was
    /// requested.
    #[error("the model server answered with the interim status {0}")]
    Interim(StatusCode),
    /// The head of the request cannot be expressed in HTTP/2.
    #[error("the request cannot be written in HTTP/2: {0}")]
    Head(#[from] http::Error),
}

impl Upstream {
    /// Relays an HTTP/1.1 request; the body of the answer is streamed. If the answer is given up, or this future is
    /// dropped, the connection is closed at once.
    ///
    /// # Errors
    /// See [`RelayError`].
    pub async fn relay(
        self: &Arc<Self>,
        epoch: &Epoch,
        mut request: Request<RelayBody<Upload>>,
    ) -> Result<(Response<Incoming>, HangUp), RelayError> {
        let Some(endpoint) = epoch.http.clone() else { return Err(ConnectError::NoHttp.into()) };
        // A request over HTTP/1.0 may have no `Host`.
        request.headers_mut().entry(header::HOST).or_insert_with(|| self.host(Wire::Rest).clone());
        self.answers.room().await;
        // If a kept connection has been closed meanwhile, nothing was sent and the next one is tried.
        while let Some(mut idle) = self.idle_relay(epoch.number) {
            if idle.sender.ready().await.is_err() {
                continue;
            }
            let hang_up = HangUp::new(idle.driver.clone());
            let again = repeatable(&request);
            match idle.sender.try_send_request(request).await {
                Ok(response) => {
                    let response = last(response)?;
                    self.keep(idle);
                    return Ok((response, hang_up));
                }
                Err(mut failed) => match failed.take_message().or(again) {
                    Some(unanswered) => request = unanswered,
                    None => return Err(failed.into_error().into()),
                },
            }
        }
        let stream = connect(&endpoint).await?;
        self.verify(epoch).await?;
        let (mut sender, connection) =
            http1::Builder::new().max_buf_size(HTTP1_BUFFER_BYTES).handshake(stream).await?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, %endpoint, "A relay connection ended.");
            }
        })
        .abort_handle();
        let hang_up = HangUp::new(driver.clone());
        let response = last(sender.send_request(request).await?)?;
        self.keep(Idle { epoch: epoch.number, sender, driver });
        Ok((response, hang_up))
    }

    fn idle_relay(&self, epoch: u64) -> Option<Idle> {
        let mut idle = lock(&self.relay.idle);
        idle.retain(|idle| idle.epoch == epoch && !idle.sender.is_closed());
        idle.pop()
    }

    /// Keeps a connection for reuse once its answer has been read to the end, which `ready` waits for.
    fn keep(self: &Arc<Self>, mut used: Idle) {
        if !self.keeps_connections() {
            return;
        }
        let upstream = Arc::clone(self);
        tokio::spawn(async move {
            if used.sender.ready().await.is_ok() {
                let mut idle = lock(&upstream.relay.idle);
                if idle.len() < MAX_IDLE {
                    idle.push(used);
                }
            }
        });
    }
}

/// Checks that a response is final, not an interim one (1xx).
fn last(response: Response<Incoming>) -> Result<Response<Incoming>, RelayError> {
    match response.status() {
        status if status.is_informational() => Err(RelayError::Interim(status)),
        _ => Ok(response),
    }
}

/// Returns a copy of the request if it may be repeated: its method is safe and it has no body. Needed because the
/// server may close a kept connection while a request is on its way.
fn repeatable(request: &Request<RelayBody<Upload>>) -> Option<Request<RelayBody<Upload>>> {
    if !request.method().is_safe() || !request.body().is_end_stream() {
        return None;
    }
    let mut again = Request::new(RelayBody::new([], None));
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.version_mut() = request.version();
    *again.headers_mut() = request.headers().clone();
    Some(again)
}

pub(super) async fn connect(endpoint: &Endpoint) -> Result<TokioIo<Stream>, ConnectError> {
    let refused = |source| ConnectError::Refused { endpoint: endpoint.clone(), source };
    Ok(TokioIo::new(endpoint.connect().await.map_err(refused)?))
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A panic elsewhere cannot leave the list of connections half-changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
