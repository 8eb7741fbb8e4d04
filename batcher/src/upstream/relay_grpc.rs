//! Relays gRPC calls unchanged. Each call has a connection to itself, which is kept for a later call.
//!
//! Calls on a shared connection would also share its windows, in both directions, and the number of streams that the
//! model server allows: a few calls whose clients do not read, or which the model server does not read, would stop all
//! others.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http2;
use hyper::rt::Executor;
use tokio_util::sync::CancellationToken;

use super::connection::{Wire, to_grpc};
use super::hang_up::HangUp;
use super::relay::{BUFFER_BYTES, MAX_IDLE, RelayError, connect, lock};
use super::relay_body::RelayBody;
use super::{Epoch, Upstream};

/// A connection between two calls.
#[derive(Debug)]
pub(super) struct IdleGrpc {
    /// Number of the epoch that the connection belongs to.
    epoch: u64,
    sender: http2::SendRequest<CallBody>,
    /// Ends all tasks of the connection.
    end: CancellationToken,
}

impl Upstream {
    /// Relays a gRPC request over HTTP/2; the body of the answer is streamed. If the answer is given up, or this future
    /// is dropped, the connection is closed at once.
    ///
    /// # Errors
    /// See [`RelayError`].
    pub async fn relay_grpc(
        self: &Arc<Self>,
        epoch: &Epoch,
        request: Request<RelayBody<Incoming>>,
    ) -> Result<(Response<Incoming>, HangUp), RelayError> {
        self.answers.room().await;
        let (mut parts, body) = request.into_parts();
        to_grpc(&mut parts, self.host(Wire::Grpc))?;
        let is_sent = Arc::new(AtomicBool::new(body.is_end_stream()));
        let body = CallBody { body, is_sent: Arc::clone(&is_sent) };
        let mut request = Request::from_parts(parts, body);
        loop {
            let idle = self.idle_grpc(epoch.number);
            let is_fresh = idle.is_none();
            let mut idle = match idle {
                Some(idle) => idle,
                None => self.open_grpc(epoch).await?,
            };
            let end = idle.end.clone().drop_guard();
            match idle.sender.try_send_request(request).await {
                Ok(response) => {
                    end.disarm();
                    let upstream = Arc::clone(self);
                    let token = idle.end.clone();
                    let keep = move || {
                        // A client that has not sent everything would go on sending on a connection of another call.
                        if is_sent.load(Ordering::Relaxed) {
                            upstream.keep_grpc(idle)
                        } else {
                            idle.end.cancel()
                        }
                    };
                    return Ok((response, HangUp::keeping(token, keep)));
                }
                // If a kept connection has been closed meanwhile, nothing was sent and the next one is tried.
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) if !is_fresh => request = unsent,
                    _ => return Err(failed.into_error().into()),
                },
            }
        }
    }

    async fn open_grpc(&self, epoch: &Epoch) -> Result<IdleGrpc, RelayError> {
        let stream = connect(&epoch.grpc).await?;
        self.verify(epoch).await?;
        let end = CancellationToken::new();
        let tasks = Tasks(end.clone());
        let (sender, connection) = http2::Builder::new(tasks.clone())
            .initial_stream_window_size(BUFFER_BYTES)
            .initial_connection_window_size(BUFFER_BYTES)
            .handshake(stream)
            .await?;
        tasks.execute(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "A gRPC relay connection ended.");
            }
        });
        Ok(IdleGrpc { epoch: epoch.number, sender, end })
    }

    fn idle_grpc(&self, epoch: u64) -> Option<IdleGrpc> {
        let mut idle = lock(&self.relay.grpc);
        idle.retain(|idle| idle.epoch == epoch && !idle.sender.is_closed());
        idle.pop()
    }

    fn keep_grpc(&self, used: IdleGrpc) {
        let mut idle = lock(&self.relay.grpc);
        if idle.len() < MAX_IDLE {
            idle.push(used);
        }
    }
}

/// Spawns the tasks of a connection, all of which end when the token is cancelled.
#[derive(Debug, Clone)]
struct Tasks(CancellationToken);

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        let end = self.0.clone();
        tokio::spawn(async move { end.run_until_cancelled_owned(task).await.map(drop) });
    }
}

/// Body of a call as its client sends it; notes when all of it has been sent.
#[derive(Debug)]
pub(super) struct CallBody {
    body: RelayBody<Incoming>,
    is_sent: Arc<AtomicBool>,
}

impl Body for CallBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(&polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.is_sent.store(true, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
