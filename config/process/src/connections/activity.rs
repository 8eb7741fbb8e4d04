//! Activity of a connection, noted by its socket and its requests, and the deadlines of slow clients.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::Idleness;

/// Stands for a time that never comes.
const NEVER: u64 = u64::MAX;

/// Time limits of a slow client.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// From the accept to the end of the first request's head (a TLS handshake included), and from the first byte of
    /// a later head to its end.
    pub head: Duration,
    /// Time between two requests.
    pub idle: Duration,
    /// Time in which the client takes no byte of a response.
    pub answer: Duration,
}

/// What a client is too slow at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    /// Sending a request's head.
    Head,
    /// Sending the next request.
    Idle,
    /// Taking a response.
    Answer,
}

/// Notes of one connection. Times are microseconds since `base`, which all connections of a port share.
#[derive(Debug)]
pub struct Activity {
    base: Instant,
    requests: AtomicUsize,
    /// Start of the current or last period without a request.
    quiet_since_us: AtomicU64,
    /// Time of the first byte since then; `NEVER` before it comes.
    heard_at_us: AtomicU64,
    /// Time since which the client takes no bytes; `NEVER` while it does.
    blocked_since_us: AtomicU64,
    has_asked: AtomicBool,
    is_http2: AtomicBool,
}

/// Copy of a connection's activity at one moment. Times are `None` where they do not apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    quiet_since_us: Option<u64>,
    heard_at_us: Option<u64>,
    blocked_since_us: Option<u64>,
    has_asked: bool,
    is_http2: bool,
}

impl Seen {
    /// Returns what the client will be late with next, and when; `None` while a request is under way and the client
    /// takes what is written.
    fn deadline(&self, patience: &Patience) -> Option<(Late, u64)> {
        let after = |since_us: u64, patience: Duration| {
            since_us.saturating_add(u64::try_from(patience.as_micros()).unwrap_or(NEVER))
        };
        let answer = self.blocked_since_us.map(|since_us| (Late::Answer, after(since_us, patience.answer)));
        let quiet = self.quiet_since_us.map(|since_us| match self.heard_at_us {
            _ if !self.has_asked => (Late::Head, after(since_us, patience.head)),
            // Bytes of HTTP/2 may be a ping.
            Some(heard_at_us) if !self.is_http2 => (Late::Head, after(heard_at_us, patience.head)),
            _ => (Late::Idle, after(since_us, patience.idle)),
        });
        [answer, quiet].into_iter().flatten().min_by_key(|(_, at_us)| *at_us)
    }
}

impl Activity {
    /// Creates the activity of a connection that begins now.
    pub fn new(base: Instant) -> Arc<Self> {
        let activity = Self {
            base,
            requests: AtomicUsize::new(0),
            quiet_since_us: AtomicU64::new(0),
            heard_at_us: AtomicU64::new(NEVER),
            blocked_since_us: AtomicU64::new(NEVER),
            has_asked: AtomicBool::new(false),
            is_http2: AtomicBool::new(false),
        };
        activity.quiet_since_us.store(activity.now_us(), Ordering::Relaxed);
        Arc::new(activity)
    }

    /// Notes that a request's head has come; it is under way until the guard is dropped.
    pub fn enter(self: &Arc<Self>, is_http2: bool) -> UnderWay {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.has_asked.store(true, Ordering::Relaxed);
        self.is_http2.store(is_http2, Ordering::Relaxed);
        self.heard_at_us.store(NEVER, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    /// Resolves when the client is too slow. Returns what it is late with.
    pub async fn late(&self, patience: &Patience) -> Late {
        let shortest = patience.head.min(patience.idle).min(patience.answer);
        loop {
            let now_us = self.now_us();
            // A deadline that is not there yet is at least the shortest patience away.
            let wait = match self.seen().deadline(patience) {
                Some((late, at_us)) if at_us <= now_us => return late,
                Some((_, at_us)) => shortest.min(Duration::from_micros(at_us - now_us)),
                None => shortest,
            };
            tokio::time::sleep(wait).await;
        }
    }

    fn seen(&self) -> Seen {
        let time = |at: &AtomicU64| Some(at.load(Ordering::Relaxed)).filter(|&us| us != NEVER);
        let quiet = self.requests.load(Ordering::Relaxed) == 0;
        Seen {
            quiet_since_us: quiet.then(|| self.quiet_since_us.load(Ordering::Relaxed)),
            heard_at_us: time(&self.heard_at_us),
            blocked_since_us: time(&self.blocked_since_us),
            has_asked: self.has_asked.load(Ordering::Relaxed),
            is_http2: self.is_http2.load(Ordering::Relaxed),
        }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_micros()).unwrap_or(NEVER)
    }

    fn heard(&self) {
        if self.requests.load(Ordering::Relaxed) == 0 && self.heard_at_us.load(Ordering::Relaxed) == NEVER {
            self.heard_at_us.store(self.now_us(), Ordering::Relaxed);
        }
    }

    fn wrote(&self, blocked: bool) {
        let is_noted = self.blocked_since_us.load(Ordering::Relaxed) != NEVER;
        if blocked != is_noted {
            let since_us = if blocked { self.now_us() } else { NEVER };
            self.blocked_since_us.store(since_us, Ordering::Relaxed);
        }
    }
}

impl Idleness for Activity {
    fn idle_since_us(&self) -> Option<u64> {
        let seen = self.seen();
        // A response that the client has not taken whole counts as a request under way.
        seen.quiet_since_us.filter(|_| seen.blocked_since_us.is_none())
    }
}

/// Guard of a request, which is under way until the guard is dropped.
#[derive(Debug)]
pub struct UnderWay(Arc<Activity>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        if self.0.requests.load(Ordering::Relaxed) == 1 {
            self.0.quiet_since_us.store(self.0.now_us(), Ordering::Relaxed);
        }
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Socket that notes its reads and writes in the activity of its connection.
#[derive(Debug)]
pub struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S> Watched<S> {
    /// Wraps `stream`, and notes its reads and writes in `activity`.
    pub fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.activity.heard();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.activity.wrote(polled.is_pending());
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.activity.wrote(polled.is_pending());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        head: Duration::from_micros(10),
        idle: Duration::from_micros(60),
        answer: Duration::from_micros(30),
    };

    #[test]
    fn a_head_counts_from_the_accept_and_later_ones_from_their_first_byte() {
        let silent = Seen {
            quiet_since_us: Some(100),
            heard_at_us: None,
            blocked_since_us: None,
            has_asked: false,
            is_http2: false,
        };
        let head = |at| Some((Late::Head, at));
        assert_eq!(silent.deadline(&PATIENCE), head(110));
        let dripping = Seen { heard_at_us: Some(109), ..silent };
        assert_eq!(dripping.deadline(&PATIENCE), head(110), "bytes win no time");
        let answered = Seen { has_asked: true, ..silent };
        assert_eq!(answered.deadline(&PATIENCE), Some((Late::Idle, 160)));
        assert_eq!(Seen { heard_at_us: Some(130), ..answered }.deadline(&PATIENCE), head(140));
        let pinging = Seen { heard_at_us: Some(130), is_http2: true, ..answered };
        assert_eq!(pinging.deadline(&PATIENCE), Some((Late::Idle, 160)));
        assert_eq!(Seen { quiet_since_us: None, ..answered }.deadline(&PATIENCE), None);
        let not_reading = Seen { quiet_since_us: None, blocked_since_us: Some(105), ..answered };
        assert_eq!(not_reading.deadline(&PATIENCE), Some((Late::Answer, 135)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_taken_is_no_idleness() {
        let activity = Activity::new(Instant::now());
        assert!(activity.idle_since_us().is_some());
        let request = activity.enter(false);
        assert!(activity.idle_since_us().is_none());
        activity.wrote(true);
        drop(request);
        assert!(activity.idle_since_us().is_none());
        let patience =
            Patience { answer: Duration::from_secs(30), head: Duration::from_secs(10), ..PATIENCE };
        let patience = Patience { idle: Duration::from_secs(60), ..patience };
        assert_eq!(activity.late(&patience).await, Late::Answer);
        activity.wrote(false);
        assert!(activity.idle_since_us().is_some());
        assert_eq!(activity.late(&patience).await, Late::Idle);
    }
}
