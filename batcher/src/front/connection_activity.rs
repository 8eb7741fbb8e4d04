//! Activity of a connection: its requests note their progress here, and the socket reads it to find out when the client
//! is too slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use sluice_process::connections::Idleness;
use tokio::sync::Notify;

use crate::answers::untaken::Client;
use crate::clock::Clock;

/// State that a connection's socket, its requests and its task share.
#[derive(Debug)]
pub(super) struct ConnectionActivity {
    /// The connection's account of responses that the client has not taken yet.
    pub client: Arc<Client>,
    clock: Clock,
    /// Requests whose responses have not been handed to the HTTP library completely.
    requests: AtomicUsize,
    /// Time since which there has been no such request (microseconds of the process's clock).
    quiet_since_us: AtomicU64,
    /// Responses that are completely known and that the client has not taken yet.
    untaken: AtomicUsize,
    /// Time at which the client took the last piece of such a response, or at which the first of them became ready.
    taken_at_us: AtomicU64,
    /// Whether the socket currently accepts no more bytes.
    blocked: AtomicBool,
    /// Notified when the connection has been unused for too long and is to be closed gracefully.
    pub idle: Notify,
}

impl ConnectionActivity {
    /// Creates the state of a connection that begins now.
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

    /// Notes that a request has arrived; it is under way until the returned guard is dropped.
    pub(super) fn enter(self: &Arc<Self>) -> UnderWay {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.client.request_began();
        UnderWay { activity: Arc::clone(self), answering: false }
    }

    /// Returns the time since which no request has been under way; `None` while one is.
    pub(super) fn quiet_since_us(&self) -> Option<u64> {
        let quiet = self.requests.load(Ordering::Relaxed) == 0;
        quiet.then(|| self.quiet_since_us.load(Ordering::Relaxed))
    }

    /// Returns the time since which the client has taken nothing although a response is ready; `None` where no response is
    /// ready.
    pub(super) fn untaken_since_us(&self) -> Option<u64> {
        let waiting = self.untaken.load(Ordering::Relaxed) > 0;
        waiting.then(|| self.taken_at_us.load(Ordering::Relaxed))
    }

    /// Notes whether bytes of a response wait because the client takes none.
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

/// Guard of a request that is under way.
#[derive(Debug)]
pub(super) struct UnderWay {
    activity: Arc<ConnectionActivity>,
    answering: bool,
}

impl UnderWay {
    /// Notes that the response is completely known and waits only for the client to take it.
    pub(super) fn answer_is_ready(&mut self) {
        if !std::mem::replace(&mut self.answering, true)
            && self.activity.untaken.fetch_add(1, Ordering::Relaxed) == 0
        {
            self.taken();
        }
    }

    /// Notes that the client has taken a piece of the response.
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
