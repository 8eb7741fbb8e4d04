//! How far a connection has come: what its requests tell the socket's guard, so that it knows when to lose patience.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use sluice_process::connections::Idleness;
use tokio::sync::Notify;

use crate::answers::untaken::Client;
use crate::clock::Clock;

/// Shared by a connection's socket, its requests and its task.
#[derive(Debug)]
pub(super) struct ConnectionActivity {
    /// The same connection, as far as its answers are concerned.
    pub client: Arc<Client>,
    clock: Clock,
    /// Requests whose answers have not been given to the HTTP library whole.
    requests: AtomicUsize,
    /// Since when there has been none of them (microseconds of the process's clock).
    quiet_since_us: AtomicU64,
    /// Answers that are known whole and that the client has not taken yet.
    untaken: AtomicUsize,
    /// When the client took the last piece of one, or the first of them became ready.
    taken_at_us: AtomicU64,
    /// The socket takes no more bytes for now.
    blocked: AtomicBool,
    /// Nobody has used the connection for long: to be closed gracefully.
    pub idle: Notify,
}

impl ConnectionActivity {
    /// Of a connection that begins now.
    pub(super) fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            client: Arc::default(),
            clock,
            requests: AtomicUsize::new(0),
            quiet_since_us: AtomicU64::new(clock.now_us()),
            untaken: AtomicUsize::new(0),
            taken_at_us: AtomicU64::new(0),
            blocked: AtomicBool::new(false),
            idle: Notify::new(),
        })
    }

    /// A request has come; it is under way until the guard is dropped.
    pub(super) fn enter(self: &Arc<Self>) -> UnderWay {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.client.request_began();
        UnderWay { activity: Arc::clone(self), answering: false }
    }

    /// Since when no request has been under way; `None` while one is.
    pub(super) fn quiet_since_us(&self) -> Option<u64> {
        let quiet = self.requests.load(Ordering::Relaxed) == 0;
        quiet.then(|| self.quiet_since_us.load(Ordering::Relaxed))
    }

    /// Since when the client has taken nothing of answers that are ready; `None` where there are none.
    pub(super) fn untaken_since_us(&self) -> Option<u64> {
        let waiting = self.untaken.load(Ordering::Relaxed) > 0;
        waiting.then(|| self.taken_at_us.load(Ordering::Relaxed))
    }

    /// Notes whether bytes of an answer wait because the client takes none.
    pub(super) fn set_blocked(&self, blocked: bool) {
        self.blocked.store(blocked, Ordering::Relaxed);
    }
}

impl Idleness for ConnectionActivity {
    fn idle_since_us(&self) -> Option<u64> {
        let is_busy = self.blocked.load(Ordering::Relaxed);
        self.quiet_since_us().filter(|_| !is_busy && self.untaken.load(Ordering::Relaxed) == 0)
    }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct UnderWay {
    activity: Arc<ConnectionActivity>,
    answering: bool,
}

impl UnderWay {
    /// Its answer is known whole: the client need only take it.
    pub(super) fn answer_is_ready(&mut self) {
        if !std::mem::replace(&mut self.answering, true)
            && self.activity.untaken.fetch_add(1, Ordering::Relaxed) == 0
        {
            self.taken();
        }
    }

    /// The client has taken a piece.
    pub(super) fn taken(&self) {
        self.activity.taken_at_us.store(self.activity.clock.now_us(), Ordering::Relaxed);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if self.answering {
            self.activity.untaken.fetch_sub(1, Ordering::Relaxed);
            self.taken();
        }
        if self.activity.requests.load(Ordering::Relaxed) == 1 {
            self.activity.quiet_since_us.store(self.activity.clock.now_us(), Ordering::Relaxed);
        }
        self.activity.requests.fetch_sub(1, Ordering::Relaxed);
        self.activity.client.request_ended();
    }
}
