//! A port that answers HTTP: its accept loop, and one connection under the port's rules.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::accept::Acceptor;
use super::activity::{UnderWay, Watched};
use super::{Activity, Admission, Connections, Idleness, Patience, Place};
use crate::files;

/// Time for a connection that is told to close to do so; then it is closed.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How often it is looked whether the last request of a connection that makes room is answered.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A port's rules.
#[derive(Debug, Clone, Copy)]
pub struct Port {
    /// Its name in log lines, such as `admin`.
    pub name: &'static str,
    /// Most connections at once; half of the files that the process may have, where that is less.
    pub limit: usize,
    /// How long clients may be slow.
    pub patience: Patience,
}

/// One connection of a port.
#[derive(Debug)]
pub struct Connection {
    /// The other end.
    pub peer: SocketAddr,
    place: Place,
    activity: Arc<Activity>,
    patience: Patience,
    stop: CancellationToken,
}

/// Accepts until `stop` is cancelled; each connection is handled by a task of its own. The tracker tells when all of
/// them have ended.
pub async fn accept_all<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    port: Port,
    stop: &CancellationToken,
    handle: impl Fn(Connection, TcpStream) -> F,
) -> TaskTracker {
    let connections = Connections::default();
    let tasks = TaskTracker::new();
    let mut acceptor = Acceptor::new(listener, port.name);
    let base = Instant::now();
    let half_of_files = files::limit().and_then(|files| usize::try_from(files / 2).ok());
    let limit = half_of_files.map_or(port.limit, |half| port.limit.min(half.max(1)));
    loop {
        let (stream, peer) = tokio::select! {
            accepted = acceptor.accept(&connections) => accepted,
            () = stop.cancelled() => break,
        };
        let activity = Activity::new(base);
        match connections.admit(peer, Arc::clone(&activity) as _, limit) {
            Admission::Admitted { place, evicted } => {
                if evicted > 0 {
                    acceptor.is_full(limit, evicted);
                }
                let (patience, stop) = (port.patience, stop.clone());
                tasks.spawn(handle(Connection { peer, place, activity, patience, stop }, stream));
            }
            // Closed at once: waiting would only hide the leak.
            Admission::Refused => acceptor.is_full(limit, 0),
        }
    }
    tasks.close();
    tasks
}

impl Connection {
    /// Watches the connection's socket: whatever is read and written must go through here.
    pub fn watch<S>(&self, stream: S) -> Watched<S> {
        Watched::new(stream, Arc::clone(&self.activity))
    }

    /// Waits for something that comes before the first request, such as a TLS handshake; `None` where the client is
    /// too slow, or another one needs the place.
    pub async fn before_requests<T>(&self, wait: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = wait => Some(done),
            _ = self.activity.late(&self.patience) => None,
            () = self.place.evicted() => None,
        }
    }

    /// Answers requests until the client closes, is too slow, or another one needs the place. When the port is closed,
    /// requests under way are answered first.
    pub async fn serve<S, F>(
        &self,
        stream: S,
        server: &auto::Builder<TokioExecutor>,
        answer: impl Fn(Request<Incoming>) -> F,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
        F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        let service = service_fn(|request: Request<Incoming>| {
            let under_way = self.activity.enter(request.version() == Version::HTTP_2);
            let answer = answer(request);
            async move { Ok::<_, Infallible>(answer.await.map(|body| Answer { body, _under_way: under_way })) }
        });
        let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            // The head that does not come, or the answer that is not taken, is not waited for any longer.
            late = self.activity.late(&self.patience) => {
                tracing::debug!(peer = %self.peer, ?late, "A client was too slow.");
                connection.as_mut().graceful_shutdown();
                tokio::time::timeout(LAST_WORDS, connection.as_mut()).await.unwrap_or(Ok(()))
            }
            () = self.place.evicted() => {
                connection.as_mut().graceful_shutdown();
                until_idle(connection.as_mut(), &*self.activity).await.unwrap_or(Ok(()))
            }
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    _ = self.activity.late(&self.patience) => Ok(()),
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(peer = %self.peer, error, "A connection ended.");
        }
    }
}

/// Drives a connection that makes room, and was told to close, until it has no request under way: one may have come
/// in the moment in which it was chosen. Returns how it ended, where it ended by itself.
pub async fn until_idle<C: Future>(
    mut connection: Pin<&mut C>,
    idleness: &dyn Idleness,
) -> Option<C::Output> {
    let mut patience = Duration::ZERO;
    loop {
        match tokio::time::timeout(patience, connection.as_mut()).await {
            Ok(ended) => return Some(ended),
            Err(_) if idleness.idle_since_us().is_some() => return None,
            Err(_) => patience = LOOK_EVERY,
        }
    }
}

/// An answer's body: the request is under way until it has been written.
struct Answer {
    body: Full<Bytes>,
    _under_way: UnderWay,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
