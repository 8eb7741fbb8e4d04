//! A client's socket with two guards: ambiguous bytes end the connection with status 400, and a client that is too slow
//! (in sending a head, between requests, in taking a response) is disconnected.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use metrics::counter;
use sluice_config::metric_names::batcher as names;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::connection_activity::ConnectionActivity;
use super::strict::Strict;
use crate::clock::Clock;
use crate::settings::Live;

/// A client's guarded socket.
#[derive(Debug)]
pub(super) struct StrictConnection {
    stream: TcpStream,
    strict: Strict,
    activity: Arc<ConnectionActivity>,
    settings: Live,
    clock: Clock,
    /// Time since which a head has been awaited: since its first byte, or, for the first head, since the connection began.
    head_since_us: Option<u64>,
    /// Whether no byte has arrived yet.
    is_silent: bool,
    write_blocked_since_us: Option<u64>,
    timer: Pin<Box<Sleep>>,
    /// When the timer fires; `u64::MAX` while it is not set.
    timer_us: u64,
    idle_notified: bool,
}

/// What the client is too slow with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Late {
    Head,
    Idle,
    Answer,
}

impl StrictConnection {
    /// Guards a connection that begins now.
    pub(super) fn new(
        stream: TcpStream,
        activity: Arc<ConnectionActivity>,
        settings: Live,
        clock: Clock,
    ) -> Self {
        Self {
            stream,
            strict: Strict::default(),
            activity,
            settings,
            clock,
            head_since_us: Some(clock.now_us()),
            is_silent: true,
            write_blocked_since_us: None,
            timer: Box::pin(tokio::time::sleep_until(clock.instant(0))),
            timer_us: u64::MAX,
            idle_notified: false,
        }
    }

    /// Returns what the client will be too slow with next, and the time of it.
    fn deadline(&self) -> Option<(Late, u64)> {
        let settings = self.settings.now();
        let answer_since = self.write_blocked_since_us.or(self.activity.untaken_since_us());
        let answer = answer_since
            .map(|since_us| (Late::Answer, since_us + settings.timeouts.answer_timeout_ms * 1000));
        let quiet_since_us = self.activity.quiet_since_us();
        let head = quiet_since_us.and(self.head_since_us);
        let head = head.map(|since_us| (Late::Head, since_us + settings.timeouts.header_timeout_ms * 1000));
        let idle = quiet_since_us.filter(|_| self.is_silent || head.is_none());
        let idle = idle.map(|since_us| (Late::Idle, since_us + settings.timeouts.idle_timeout_ms * 1000));
        [answer, head, idle].into_iter().flatten().min_by_key(|(_, at_us)| *at_us)
    }

    /// Sets the timer for the next deadline; returns what the client is too slow with. To be called when the socket is not
    /// ready.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Option<Late> {
        loop {
            let now_us = self.clock.now_us();
            let at_us = match self.deadline() {
                Some((late, at_us)) if at_us <= now_us => return Some(late),
                Some((_, at_us)) => at_us,
                // The end of a request need not wake this task: the timer fires when the connection could be idle.
                None => now_us.saturating_add(self.settings.now().timeouts.idle_timeout_ms * 1000),
            };
            // The timer is not moved to a later deadline but checked again when it fires, which is cheaper.
            if at_us < self.timer_us {
                self.timer_us = at_us;
                let at = self.clock.instant(at_us);
                self.timer.as_mut().reset(at);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return None;
            }
            self.timer_us = u64::MAX;
        }
    }

    /// Ends the connection of a client that is too slow with an error; asks its task to close it gracefully where the client
    /// is only idle.
    fn lose_patience(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(late) = self.poll_late(cx) else { return Ok(()) };
        let reason = match late {
            Late::Idle => {
                if !std::mem::replace(&mut self.idle_notified, true) {
                    counter!(names::CONNECTIONS_CLOSED_TOTAL, "reason" => "idle").increment(1);
                    self.activity.idle.notify_one();
                }
                return Ok(());
            }
            Late::Head => "header_timeout",
            Late::Answer => "answer_timeout",
        };
        counter!(names::CONNECTIONS_CLOSED_TOTAL, "reason" => reason).increment(1);
        Err(io::Error::new(io::ErrorKind::TimedOut, reason))
    }

    /// Checks bytes that were read.
    fn inspect(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        if let Err(fault) = self.strict.inspect(buf, before, |_, _| {}) {
            tracing::debug!(
                ?fault,
                "A client's connection is closed because its bytes are not valid HTTP/1.1."
            );
            counter!(names::CONNECTIONS_CLOSED_TOTAL, "reason" => "malformed").increment(1);
        }
        self.is_silent = false;
        self.head_since_us = match (self.strict.is_in_head(), self.head_since_us) {
            (true, None) => Some(self.clock.now_us()),
            (true, since_us) => since_us,
            (false, _) => None,
        };
    }
}

impl AsyncRead for StrictConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.strict.is_over(buf) {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                self.inspect(buf, before);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => match self.lose_patience(cx) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            },
        }
    }
}

impl StrictConnection {
    fn written(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if polled.is_ready() {
            if self.write_blocked_since_us.take().is_some() {
                self.activity.set_blocked(false);
            }
            return polled;
        }
        self.activity.set_blocked(true);
        let now_us = self.clock.now_us();
        self.write_blocked_since_us.get_or_insert(now_us);
        self.lose_patience(cx)?;
        Poll::Pending
    }
}

impl AsyncWrite for StrictConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.written(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = ready!(Pin::new(&mut self.stream).poll_shutdown(cx));
        // Bytes that have arrived meanwhile are read: a socket that is closed with unread bytes is reset, and the client
        // might lose the response that says why.
        let mut rest = [0; 4096];
        for _ in 0..64 {
            match self.stream.try_read(&mut rest) {
                Ok(1..) => {}
                _ => break,
            }
        }
        Poll::Ready(ended)
    }
}
