//! When a request's bytes were handed to its socket.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::clock;

/// The moment of one request's hand-over; the first mark counts.
///
/// It is the first write on the request's connection after the request was given to it. A request that has
/// to wait for a new connection is marked when connecting begins: what comes after is the target's time,
/// and part of the latency.
#[derive(Debug, Clone, Default)]
pub(super) struct Stamp(Arc<AtomicU64>);

impl Stamp {
    /// Marks now, unless marked already.
    pub(super) fn mark(&self) {
        if self.0.load(Ordering::Relaxed) == 0 {
            self.0.store(clock::now_ns(), Ordering::Relaxed);
        }
    }

    /// The mark in nanoseconds of the monotonic clock, if there is one.
    pub(super) fn marked_ns(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|ns| *ns != 0)
    }
}

/// The requests of one connection that have not been written yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Unwritten(Arc<Mutex<Vec<Stamp>>>);

impl Unwritten {
    /// The next write marks this stamp.
    pub(super) fn push(&self, stamp: Stamp) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(stamp);
    }

    fn mark_all(&self) {
        let mut stamps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stamps.drain(..).for_each(|stamp| stamp.mark());
    }
}

/// A socket that marks what is unwritten at each write.
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
