//! One HTTP/1.1 connection to an upstream, driven by the task that uses it: no task of its own, no channel
//! between sender and socket, so that a batch costs no extra wake-ups.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::endpoint::{Endpoint, Stream};

/// Below this size a body is copied into one piece: one `write` of a copy is cheaper than many pieces.
const COALESCE_BYTES: usize = 16 * 1024;

/// A request body of several pieces that are written as they are (`writev`).
#[derive(Debug, Default)]
pub struct Chunks {
    pieces: VecDeque<Bytes>,
    left: u64,
}

impl Chunks {
    /// A body of these pieces, in order.
    pub fn new(pieces: Vec<Bytes>) -> Self {
        let total: usize = pieces.iter().map(Bytes::len).sum();
        if pieces.len() > 1 && total <= COALESCE_BYTES {
            let mut whole = BytesMut::with_capacity(total);
            pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
            return Self::from(whole.freeze());
        }
        let pieces: VecDeque<_> = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
        Self { left: total as u64, pieces }
    }
}

impl From<Bytes> for Chunks {
    fn from(whole: Bytes) -> Self {
        let left = whole.len() as u64;
        Self { pieces: if whole.is_empty() { VecDeque::new() } else { VecDeque::from([whole]) }, left }
    }
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.pieces.pop_front().map(|piece| {
            self.left -= piece.len() as u64;
            Ok(Frame::data(piece))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// A complete answer of an upstream.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// Headers as received.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The connection was gone before anything was written: the upstream has not seen the request.
    #[error("the upstream closed the connection before the request was sent")]
    Unsent(Box<Request<Chunks>>),
    /// The connection broke before the answer was complete; the request may have been executed.
    #[error("the upstream's connection broke before the answer was complete: {0}")]
    Broken(String),
    /// The answer is larger than the limit.
    #[error("the upstream's answer is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
}

/// An open connection, idle between exchanges.
pub struct H1Connection {
    sender: http1::SendRequest<Chunks>,
    driver: Driver,
}

/// hyper's side of the connection. It is dropped as soon as it has ended: only that tells a request that was
/// handed to it too late that nobody will send it.
struct Driver(Option<Pin<Box<HttpConnection>>>);

type HttpConnection = http1::Connection<TokioIo<Stream>, Chunks>;

impl Driver {
    /// Moves bytes; ready once the connection has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(connection) = &mut self.0
            && connection.as_mut().poll(cx).is_ready()
        {
            self.0 = None;
        }
        if self.0.is_none() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl std::fmt::Debug for H1Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("H1Connection").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

impl H1Connection {
    /// Connects.
    ///
    /// # Errors
    /// What the system says: refused, unreachable, …
    pub async fn open(endpoint: &Endpoint) -> std::io::Result<Self> {
        let stream = endpoint.connect().await?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        Ok(Self { sender, driver: Driver(Some(Box::pin(driver))) })
    }

    /// Whether the peer has closed it, as far as is known without reading.
    pub fn is_closed(&self) -> bool {
        self.driver.0.is_none() || self.sender.is_closed()
    }

    /// Waits until the peer closes the idle connection.
    pub async fn until_closed(&mut self) {
        poll_fn(|cx| self.driver.poll(cx)).await;
    }

    /// Sends one request and reads the whole answer, at most `limit_bytes` of it.
    ///
    /// # Errors
    /// See [`ExchangeError`]; after any of them the connection is to be dropped.
    pub async fn exchange(
        &mut self,
        request: Request<Chunks>,
        limit_bytes: usize,
    ) -> Result<Answer, ExchangeError> {
        let ready = poll_fn(|cx| {
            let _ = self.driver.poll(cx);
            self.sender.poll_ready(cx)
        });
        if ready.await.is_err() {
            return Err(ExchangeError::Unsent(Box::new(request)));
        }
        let response = {
            let mut sending = pin!(self.sender.try_send_request(request));
            let driver = &mut self.driver;
            poll_fn(|cx| {
                let _ = driver.poll(cx);
                sending.as_mut().poll(cx)
            })
            .await
        };
        let response = response.map_err(|mut failed| match failed.take_message() {
            Some(unsent) => ExchangeError::Unsent(Box::new(unsent)),
            None => ExchangeError::Broken(describe(failed.error())),
        })?;
        let (parts, body) = response.into_parts();
        let body = self.read(body, &parts.headers, limit_bytes).await?;
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }

    async fn read(
        &mut self,
        mut body: Incoming,
        headers: &HeaderMap,
        limit_bytes: usize,
    ) -> Result<Bytes, ExchangeError> {
        let expected = content_length(headers).unwrap_or(0);
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        loop {
            let frame = {
                let mut next = pin!(body.frame());
                let driver = &mut self.driver;
                poll_fn(|cx| {
                    let _ = driver.poll(cx);
                    next.as_mut().poll(cx)
                })
                .await
            };
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|error| ExchangeError::Broken(describe(&error)))?;
            let Ok(data) = frame.into_data() else { continue };
            if first.len() + rest.len() + data.len() > limit_bytes {
                return Err(ExchangeError::TooLarge { limit_bytes });
            }
            if first.is_empty() && rest.is_empty() {
                first = data;
            } else {
                if rest.is_empty() {
                    rest.reserve(expected.clamp(first.len() + data.len(), limit_bytes));
                    rest.extend_from_slice(&first);
                    first = Bytes::new();
                }
                rest.extend_from_slice(&data);
            }
        }
        Ok(if rest.is_empty() { first } else { rest.freeze() })
    }
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// hyper's error with its cause, which holds the system's words.
fn describe(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
