//! One HTTP/1.1 connection to an upstream, driven by the task that uses it. It has no task of its own and no channel
//! between sender and socket, so that a batch costs no extra wake-ups.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Version, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::{Chunks, ExchangeError, UpstreamResponse, describe};
use crate::upstream::endpoint::{Endpoint, Stream};

/// An open connection, idle between exchanges.
pub struct H1Connection {
    sender: http1::SendRequest<Chunks>,
    driver: Driver,
    /// Whether the peer has announced that its answer is the last one of this connection.
    ends: bool,
}

/// hyper's side of the connection. It is dropped as soon as it has ended, because only that fails a request which was
/// handed to it too late to be sent.
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
    /// Connects to an endpoint.
    ///
    /// # Errors
    /// Returns the system's error: refused, unreachable, …
    pub async fn open(endpoint: &Endpoint) -> std::io::Result<Self> {
        let stream = endpoint.connect().await?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        Ok(Self { sender, driver: Driver(Some(Box::pin(driver))), ends: false })
    }

    /// Returns whether the peer has closed the connection, as far as is known without reading.
    pub fn is_closed(&self) -> bool {
        self.driver.0.is_none() || self.sender.is_closed()
    }

    /// Returns whether the last answer was the final one of the connection.
    pub fn has_ended(&self) -> bool {
        self.ends || self.is_closed()
    }

    /// Waits until the peer closes the idle connection.
    pub async fn until_closed(&mut self) {
        poll_fn(|cx| self.driver.poll(cx)).await;
    }

    /// Sends one request and reads the whole answer, of at most `limit_bytes`.
    ///
    /// # Errors
    /// See [`ExchangeError`]; after any of them the connection is to be dropped.
    pub async fn exchange(
        &mut self,
        request: Request<Chunks>,
        limit_bytes: usize,
    ) -> Result<UpstreamResponse, ExchangeError> {
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
        if parts.status.is_informational() {
            let text = format!("the answer is {}, an interim response", parts.status);
            return Err(ExchangeError::Broken(text));
        }
        self.ends = ends_with(parts.version, &parts.headers);
        let body = self.read(body, &parts.headers, limit_bytes).await?;
        Ok(UpstreamResponse { status: parts.status, headers: parts.headers, body })
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
        // If the length is known, the last byte is the end: asking for another frame would cost a turn of the driver.
        while !body.is_end_stream() {
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

/// Returns whether an answer with this head is the last one of its connection: it says so, or is HTTP/1.0 without
/// `keep-alive`.
fn ends_with(version: Version, headers: &HeaderMap) -> bool {
    let says = |option: &str| {
        let lines = headers.get_all(header::CONNECTION).iter().filter_map(|line| line.to_str().ok());
        lines.flat_map(|line| line.split(',')).any(|said| said.trim().eq_ignore_ascii_case(option))
    };
    says("close") || (version < Version::HTTP_11 && !says("keep-alive"))
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_1_0_ends_with_an_answer_unless_it_says_otherwise() {
        let head = |lines: &[&'static str]| -> HeaderMap {
            lines.iter().map(|&line| (header::CONNECTION, line.parse().unwrap())).collect()
        };
        assert!(ends_with(Version::HTTP_10, &head(&[])));
        assert!(!ends_with(Version::HTTP_10, &head(&["Keep-Alive"])));
        assert!(!ends_with(Version::HTTP_11, &head(&["x-other"])));
        assert!(ends_with(Version::HTTP_11, &head(&["x-other", "x-more, Close"])));
    }
}
