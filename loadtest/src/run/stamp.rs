//! Time at which a request's bytes were handed to its socket.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::clock;

/// Send time of one request. Only the first mark counts.
///
/// It is the time of the first write on the request's connection after the request was given to it. A request that
/// waits for a new connection is marked when connecting begins: the rest is the target's time, and part of the
/// latency.
#[derive(Debug, Clone, Default)]
pub(super) struct Stamp(Arc<AtomicU64>);

impl Stamp {
    /// Sets the mark to the current time, unless it is set.
    pub(super) fn mark(&self) {
        if self.0.load(Ordering::Relaxed) == 0 {
            self.0.store(clock::now_ns(), Ordering::Relaxed);
        }
    }

    /// Returns the mark in nanoseconds of the monotonic clock; `None` if it is not set.
    pub(super) fn marked_ns(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|ns| *ns != 0)
    }
}

/// Stamps of the requests of one connection that have not been written yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Unwritten(Arc<Mutex<Vec<Stamp>>>);

impl Unwritten {
    /// Adds a stamp, which the next write marks.
    pub(super) fn push(&self, stamp: Stamp) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(stamp);
    }

    fn mark_all(&self) {
        let mut stamps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stamps.drain(..).for_each(|stamp| stamp.mark());
    }
}

/// Socket that marks all unwritten requests at each write.
#[derive(Debug)]
pub(super) struct StampedSocket {
    io: TokioIo<TcpStream>,
    unwritten: Unwritten,
}

impl StampedSocket {
    /// Wraps a connected socket.
    pub(super) fn new(stream: TcpStream, unwritten: Unwritten) -> Self {
        Self { io: TokioIo::new(stream), unwritten }
    }
}

impl Read for StampedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for StampedSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.unwritten.mark_all();
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.unwritten.mark_all();
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}
