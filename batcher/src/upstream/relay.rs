//! Connections for requests that are passed on as they are, kept for reuse; each has one request at a time and belongs
//! to the epoch that it was verified for. Here HTTP/1.1; gRPC is in `relay_grpc`.

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

/// Idle connections of either kind that are kept per upstream.
pub(super) const MAX_IDLE: usize = 16;
/// What a connection holds at most of an answer that its client does not take.
pub const BUFFER_BYTES: u32 = 128 << 10;
/// HTTP/1.1 reads ahead into a buffer while what it has read before waits to be taken.
const HTTP1_BUFFER_BYTES: usize = BUFFER_BYTES as usize / 2;

/// The connections of one upstream.
#[derive(Debug, Default)]
pub(super) struct Connections {
    idle: Mutex<Vec<Idle>>,
    pub(super) grpc: Mutex<Vec<IdleGrpc>>,
}

/// An HTTP/1.1 connection between two requests.
#[derive(Debug)]
struct Idle {
    /// Number of its epoch.
    epoch: u64,
    sender: http1::SendRequest<RelayBody<Upload>>,
    /// The task that drives it.
    driver: AbortHandle,
}

/// Why a request was not passed on.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// Nothing was sent.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection broke.
    #[error("the model server's connection broke: {0}")]
    Broken(#[from] hyper::Error),
    /// An interim answer where the last one should be: nobody has asked for another protocol.
    #[error("the model server answered with status {0}, which ends no request")]
    Interim(StatusCode),
    /// The request's head is none in the server's version of HTTP.
    #[error("the request cannot be written in HTTP/2: {0}")]
    Head(#[from] http::Error),
}

impl Upstream {
    /// Passes an HTTP request on. The answer's body streams. Where the answer is given up, or this future is dropped,
    /// the connection is closed at once.
    ///
    /// # Errors
    /// See [`RelayError`].
    pub async fn relay(
        self: &Arc<Self>,
        epoch: &Epoch,
        mut request: Request<RelayBody<Upload>>,
    ) -> Result<(Response<Incoming>, HangUp), RelayError> {
        let Some(endpoint) = epoch.http.clone() else { return Err(ConnectError::NoHttp.into()) };
        // One over HTTP/1.0 may have none.
        request.headers_mut().entry(header::HOST).or_insert_with(|| self.host(Wire::Rest).clone());
        self.answers.room().await;
        // A kept connection may have been closed meanwhile; then nothing was sent and the next one is tried.
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

    /// Keeps a connection once its answer has been read to the end; `ready` waits for that.
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

/// An answer that ends its request.
fn last(response: Response<Incoming>) -> Result<Response<Incoming>, RelayError> {
    match response.status() {
        status if status.is_informational() => Err(RelayError::Interim(status)),
        _ => Ok(response),
    }
}

/// The same request once more, where that changes nothing at the server: it may close a kept connection at the moment
/// when a request is on its way.
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
    // What it guards is replaced whole: a panic elsewhere cannot leave it half-written.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
