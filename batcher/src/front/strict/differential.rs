//! Runs bytes through the guard into the HTTP library, as the front port does, and compares what the two have seen.
//! Used by this crate's tests and by the fuzz target `http1`.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::front::framing::{Fault, Part};
use crate::front::strict::Strict;

/// The library's smallest limit of a head, so that short inputs reach it.
const MAX_HEADER_BYTES: usize = 8192;

/// Polls that the library gets to answer what has arrived, before the client ends its side.
const TURNS_AT_END: usize = 32;

/// A request as the guard or the library has seen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: Option<Uri>,
    /// Lines of its header.
    pub(crate) fields: usize,
    pub(crate) body: Vec<u8>,
    /// Whether its end was seen too.
    pub(crate) is_whole: bool,
}

/// Outcome of a connection.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Requests that the guard has let pass.
    pub(crate) guard: Vec<Seen>,
    /// Requests that the library has handed to its service.
    pub(crate) library: Vec<Seen>,
    /// Fault that the guard has found.
    pub(super) fault: Option<Fault>,
    /// Whether the guard has recognised the connection as HTTP/2.
    pub(crate) is_opaque: bool,
    /// Bytes that were sent back.
    pub(crate) answers: Vec<u8>,
}

/// What the service does with bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// The service reads a body and then answers.
    Reads,
    /// The service answers at once.
    Ignores,
}

/// Serves a connection on which the bytes arrive in pieces of the sizes `pieces`, repeated, and then end.
pub(crate) fn serve(bytes: &[u8], pieces: &[usize], service: Service) -> Outcome {
    let outcome = Arc::new(Mutex::new(Outcome::default()));
    let script = Script {
        bytes: bytes.to_vec(),
        at: 0,
        pieces: if pieces.is_empty() { vec![usize::MAX] } else { pieces.to_vec() },
        piece: 0,
        left: 0,
        strict: Strict::default(),
        turns_at_end: 0,
        message_start: 0,
        outcome: Arc::clone(&outcome),
    };
    let answering = {
        let outcome = Arc::clone(&outcome);
        service_fn(move |request| answer(request, Arc::clone(&outcome), service))
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    runtime.block_on(async {
        let mut server = auto::Builder::new(TokioExecutor::new());
        server.http1().max_buf_size(MAX_HEADER_BYTES);
        // The result does not matter here.
        let _ = server.serve_connection(TokioIo::new(script), answering).await;
    });
    drop(runtime);
    std::mem::take(&mut lock(&outcome))
}

/// Checks that the library has seen nothing but what the guard has let pass, with the same boundaries.
pub(crate) fn assert_agreement(outcome: &Outcome) {
    if outcome.is_opaque {
        return;
    }
    let Outcome { guard, library, .. } = outcome;
    assert!(library.len() <= guard.len(), "requests that the guard has not seen: {outcome:#?}");
    for (number, (seen, passed)) in library.iter().zip(guard).enumerate() {
        assert_eq!(
            (&seen.method, &seen.target, seen.fields),
            (&passed.method, &passed.target, passed.fields),
            "head {number}: {outcome:#?}"
        );
        assert!(passed.body.starts_with(&seen.body), "body {number}: {outcome:#?}");
        if seen.is_whole {
            assert!(passed.is_whole && seen.body == passed.body, "end of {number}: {outcome:#?}");
        }
        if number + 1 < library.len() {
            assert!(passed.is_whole, "one begins before {number} has ended: {outcome:#?}");
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    outcome: Arc<Mutex<Outcome>>,
    service: Service,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let number = {
        let mut outcome = lock(&outcome);
        outcome.library.push(Seen {
            method: parts.method.to_string(),
            target: Some(parts.uri),
            fields: parts.headers.len(),
            body: Vec::new(),
            is_whole: false,
        });
        outcome.library.len() - 1
    };
    let mut response = Response::new(Empty::new());
    // As on the front port, no connection becomes a tunnel.
    if parts.method == Method::CONNECT {
        *response.status_mut() = StatusCode::NOT_IMPLEMENTED;
    }
    if service == Service::Reads && read_body(body, number, &outcome).await.is_err() {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    Ok(response)
}

async fn read_body(mut body: Incoming, number: usize, outcome: &Mutex<Outcome>) -> hyper::Result<()> {
    while let Some(frame) = body.frame().await {
        let data = frame?.into_data().unwrap_or_default();
        lock(outcome).library[number].body.extend_from_slice(&data);
    }
    lock(outcome).library[number].is_whole = true;
    Ok(())
}

/// A connection whose client has written everything in advance.
struct Script {
    bytes: Vec<u8>,
    at: usize,
    pieces: Vec<usize>,
    /// Pieces so far.
    piece: usize,
    /// Bytes of the current piece that were not read yet.
    left: usize,
    strict: Strict,
    /// How often the library has tried to read after the last byte.
    turns_at_end: usize,
    /// Position at which the guard's current message begins.
    message_start: usize,
    outcome: Arc<Mutex<Outcome>>,
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.strict.is_over(buf) {
            return Poll::Ready(Ok(()));
        }
        if this.at == this.bytes.len() {
            // The library takes a client that ends its side for gone, so it gets time to answer complete requests before.
            if this.turns_at_end == TURNS_AT_END {
                return Poll::Ready(Ok(()));
            }
            this.turns_at_end += 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if this.left == 0 {
            // Other tasks run between two pieces.
            this.left = this.pieces[this.piece % this.pieces.len()].max(1);
            this.piece += 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let start = this.at;
        let taken = this.left.min(buf.remaining()).min(this.bytes.len() - start);
        buf.put_slice(&this.bytes[start..start + taken]);
        this.at += taken;
        this.left -= taken;
        let mut outcome = lock(&this.outcome);
        let (bytes, message_start) = (&this.bytes, &mut this.message_start);
        let inspected = this.strict.inspect(buf, before, |at, part| {
            let at = start + at;
            match part {
                Part::Head => outcome.guard.push(read_head(&bytes[*message_start..at])),
                Part::Data(data) => {
                    outcome.guard.last_mut().expect("a body has a head").body.extend_from_slice(data);
                }
                Part::End => {
                    outcome.guard.last_mut().expect("an end has a head").is_whole = true;
                    *message_start = at;
                }
            }
        });
        outcome.fault = inspected.err();
        outcome.is_opaque = this.strict.is_opaque();
        Poll::Ready(Ok(()))
    }
}

/// Reads a head in the simplest way: its lines, and the words of the first line.
fn read_head(bytes: &[u8]) -> Seen {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split("\r\n").filter(|line| !line.is_empty());
    let mut words = lines.next().unwrap_or_default().split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().and_then(|target| target.parse().ok());
    Seen { method, target, fields: lines.count(), body: Vec::new(), is_whole: false }
}

impl AsyncWrite for Script {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        lock(&self.outcome).answers.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn lock(outcome: &Mutex<Outcome>) -> std::sync::MutexGuard<'_, Outcome> {
    outcome.lock().unwrap_or_else(PoisonError::into_inner)
}
