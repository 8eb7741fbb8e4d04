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

/// Time for a graceful close of a connection before it is cut.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Interval of checks whether the last request of an evicted connection is answered.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Rules of a port.
#[derive(Debug, Clone, Copy)]
pub struct Port {
    /// Name in log lines, such as `admin`.
    pub name: &'static str,
    /// Maximum number of connections; half of the process's limit of open files, if that is less.
    pub limit: usize,
    /// How slow clients may be.
    pub patience: Patience,
}

/// One connection of a port.
#[derive(Debug)]
pub struct Connection {
    /// Address of the client.
    pub peer: SocketAddr,
    place: Place,
    activity: Arc<Activity>,
    patience: Patience,
    stop: CancellationToken,
}

/// Accepts until `stop` is cancelled, and handles each connection in a task of its own. The tracker returned resolves
/// when all of them have ended.
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
    /// Wraps the connection's socket to watch its activity. All reads and writes must go through the wrapper.
    pub fn watch<S>(&self, stream: S) -> Watched<S> {
        Watched::new(stream, Arc::clone(&self.activity))
    }

    /// Waits for what precedes the first request, such as a TLS handshake; `None` if the client is too slow or evicted.
    pub async fn before_requests<T>(&self, wait: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = wait => Some(done),
            _ = self.activity.late(&self.patience) => None,
            () = self.place.evicted() => None,
        }
    }

    /// ResponseBodys requests until the client closes, is too slow, or is evicted. When the port is closed, requests in progress
    /// are answered first.
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
            async move {
                Ok::<_, Infallible>(answer.await.map(|body| ResponseBody { body, _under_way: under_way }))
            }
        });
        let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            // Stops waiting for a head that does not come, or a response that is not read.
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

/// Drives an evicted connection until it has no request in progress: one may have come just when it was chosen.
/// Returns its output if it ended by itself.
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

/// Body of a response: the request is in progress until it has been written.
struct ResponseBody {
    body: Full<Bytes>,
    _under_way: UnderWay,
}

impl Body for ResponseBody {
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
