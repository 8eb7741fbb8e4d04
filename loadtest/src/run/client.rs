//! Connections to the target. They are persistent, opened ahead of the run and whenever all are busy, and so never
//! limit an open loop.
//! HTTP/1.1 has one request per connection at a time; HTTP/2 (gRPC) shares connections up to
//! [`STREAMS_PER_CONNECTION`].

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpStream;

use super::judge::ReceivedResponse;
use super::stamp::{Stamp, StampedSocket, Unwritten};
use crate::clock;
use crate::plan::Protocol;
use crate::record::LostKind;

/// Maximum number of requests on one HTTP/2 connection before another is opened. Below the 200 that servers built
/// on hyper allow, so that no request waits in the client for its stream.
const STREAMS_PER_CONNECTION: usize = 100;
/// Maximum size of a response body.
const RESPONSE_LIMIT_BYTES: usize = 64 << 20;

type Body = Full<Bytes>;

/// A complete response and the time of its last byte.
#[derive(Debug)]
pub(super) struct Arrived {
    /// The answer.
    pub(super) received: ReceivedResponse,
    /// Arrival of the last byte, in nanoseconds of the monotonic clock.
    pub(super) at_ns: u64,
}

/// Client with all connections to one target. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Client {
    address: SocketAddr,
    idle_h1: Arc<Mutex<Vec<Http1>>>,
    h2: Arc<Mutex<Vec<Arc<Http2>>>>,
    opened: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Http1 {
    sender: http1::SendRequest<Body>,
    unwritten: Unwritten,
}

/// Holder of an HTTP/2 connection. A request that finds it empty or broken opens a new connection.
#[derive(Debug, Default)]
struct Http2 {
    in_flight: AtomicUsize,
    connection: tokio::sync::Mutex<Option<(http2::SendRequest<Body>, Unwritten)>>,
}

/// Guard of a request in flight: reduces the count of its connection when dropped.
struct InFlight(Arc<Http2>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Client {
    /// Creates a client without connections.
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, idle_h1: Arc::default(), h2: Arc::default(), opened: Arc::default() }
    }

    /// Returns the number of connections opened so far.
    pub(super) fn opened(&self) -> usize {
        self.opened.load(Ordering::Relaxed)
    }

    /// Opens `count` connections of each kind that `protocols` need.
    ///
    /// # Errors
    pub(super) async fn open_ahead(&self, protocols: &[Protocol], count: usize) -> std::io::Result<()> {
        let grpc = protocols.contains(&Protocol::Grpc);
        if protocols.iter().any(|protocol| *protocol != Protocol::Grpc) {
            for _ in 0..count {
                let connection = self.connect_h1().await?;
                lock(&self.idle_h1).push(connection);
            }
        }
        if grpc {
            for _ in 0..count.div_ceil(STREAMS_PER_CONNECTION).max(2) {
                let place = Http2::default();
                *place.connection.lock().await = Some(self.connect_h2().await?);
                lock(&self.h2).push(Arc::new(place));
            }
        }
        Ok(())
    }

    /// Sends a request and waits for the complete response.
    ///
    /// # Errors
    /// How the request was lost.
    pub(super) async fn send(
        &self,
        protocol: Protocol,
        request: Request<Body>,
        stamp: &Stamp,
    ) -> Result<Arrived, LostKind> {
        match protocol {
            Protocol::Grpc => self.send_h2(request, stamp).await,
            Protocol::RestJson | Protocol::RestBinary | Protocol::Body => self.send_h1(request, stamp).await,
        }
    }

    async fn send_h1(&self, mut request: Request<Body>, stamp: &Stamp) -> Result<Arrived, LostKind> {
        let (mut connection, response) = loop {
            let pooled = lock(&self.idle_h1).pop();
            let fresh = pooled.is_none();
            let mut connection = match pooled {
                Some(connection) if connection.sender.is_ready() => connection,
                Some(_) => continue,
                None => {
                    stamp.mark();
                    self.connect_h1().await.map_err(|_| LostKind::Connect)?
                }
            };
            connection.unwritten.push(stamp.clone());
            match connection.sender.try_send_request(request).await {
                Ok(response) => break (connection, response),
                // The connection had closed before anything was written: the request can be sent on another one.
                Err(mut error) => match error.take_message() {
                    Some(unsent) if !fresh => request = unsent,
                    _ => return Err(LostKind::Reset),
                },
            }
        };
        let arrived = collect(response).await?;
        if connection.sender.is_ready() {
            lock(&self.idle_h1).push(connection);
        } else if !connection.sender.is_closed() {
            let idle = Arc::clone(&self.idle_h1);
            tokio::spawn(async move {
                if connection.sender.ready().await.is_ok() {
                    lock(&idle).push(connection);
                }
            });
        }
        Ok(arrived)
    }

    async fn send_h2(&self, mut request: Request<Body>, stamp: &Stamp) -> Result<Arrived, LostKind> {
        let place = self.place_h2();
        loop {
            let (mut sender, unwritten, fresh) = {
                let mut connection = place.0.connection.lock().await;
                match &*connection {
                    Some((sender, unwritten)) if !sender.is_closed() => {
                        (sender.clone(), unwritten.clone(), false)
                    }
                    _ => {
                        stamp.mark();
                        let (sender, unwritten) = self.connect_h2().await.map_err(|_| LostKind::Connect)?;
                        *connection = Some((sender.clone(), unwritten.clone()));
                        (sender, unwritten, true)
                    }
                }
            };
            unwritten.push(stamp.clone());
            match sender.try_send_request(request).await {
                Ok(response) => return collect(response).await,
                Err(mut error) => match error.take_message() {
                    Some(unsent) if !fresh => request = unsent,
                    _ => return Err(LostKind::Reset),
                },
            }
        }
    }

    /// Returns the least loaded connection, or a new one if all are full.
    fn place_h2(&self) -> InFlight {
        let mut places = lock(&self.h2);
        let load = |place: &Arc<Http2>| place.in_flight.load(Ordering::Relaxed);
        let least = places.iter().min_by_key(|place| load(place));
        let place = match least.filter(|place| load(place) < STREAMS_PER_CONNECTION) {
            Some(place) => Arc::clone(place),
            None => {
                places.push(Arc::default());
                Arc::clone(&places[places.len() - 1])
            }
        };
        place.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(place)
    }

    async fn connect(&self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(stream)
    }

    async fn connect_h1(&self) -> std::io::Result<Http1> {
        let unwritten = Unwritten::default();
        let socket = StampedSocket::new(self.connect().await?, unwritten.clone());
        let (sender, connection) = http1::handshake(socket).await.map_err(std::io::Error::other)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "A connection ended with an error.");
            }
        });
        Ok(Http1 { sender, unwritten })
    }

    async fn connect_h2(&self) -> std::io::Result<(http2::SendRequest<Body>, Unwritten)> {
        let unwritten = Unwritten::default();
        let socket = StampedSocket::new(self.connect().await?, unwritten.clone());
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_connection_window_size(16 << 20).initial_stream_window_size(4 << 20);
        let (sender, connection) = builder.handshake(socket).await.map_err(std::io::Error::other)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "A connection ended with an error.");
            }
        });
        Ok((sender, unwritten))
    }
}

async fn collect(response: Response<Incoming>) -> Result<Arrived, LostKind> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, RESPONSE_LIMIT_BYTES).collect().await.map_err(|_| LostKind::Reset)?;
    let at_ns = clock::now_ns();
    let trailers = body.trailers().cloned();
    let received =
        ReceivedResponse { status: head.status, headers: head.headers, body: body.to_bytes(), trailers };
    Ok(Arrived { received, at_ns })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
