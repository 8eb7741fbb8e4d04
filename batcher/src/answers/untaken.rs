//! Answers under way, and how far their clients have come.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;

use super::budget::AnswerBudget;
use super::stream_task::StreamTask;
use crate::clock::Clock;

/// A connection has its part of the budget where it holds at most so many times as much as is free …
const THRESHOLD: usize = 8;
/// … or no more than this fraction of it, however little is free.
const LEAST_FRACTION: usize = 16;

/// All answers under way.
#[derive(Debug)]
pub struct Answers {
    /// Memory of all of them.
    pub budget: AnswerBudget,
    clock: Clock,
    number: AtomicU64,
    under_way: Mutex<HashMap<u64, Weak<Untaken>>>,
}

impl Answers {
    /// Creates the list of answers under way, empty.
    pub fn new(budget: AnswerBudget, clock: Clock) -> Arc<Self> {
        Arc::new(Self { budget, clock, number: AtomicU64::new(0), under_way: Mutex::default() })
    }

    /// An answer that begins now.
    pub fn begin(self: &Arc<Self>, client: &Arc<Client>) -> Arc<Untaken> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let untaken = Arc::new(Untaken {
            answers: Arc::clone(self),
            number,
            client: Arc::clone(client),
            stream: StreamTask::current(),
            bytes: AtomicUsize::new(0),
            moved_us: AtomicU64::new(self.clock.now_us()),
            has_body: AtomicBool::new(true),
            is_reset: AtomicBool::new(false),
        });
        self.lock().insert(number, Arc::downgrade(&untaken));
        untaken
    }

    /// Whether a client that gets so many more bytes would hold more than its part.
    pub fn is_beyond_part(&self, client: &Client, more: usize) -> bool {
        let untaken = client.bytes.load(Ordering::Relaxed);
        let limit = self.budget.limit();
        let free = limit.saturating_sub(self.budget.used());
        let part = free.saturating_mul(THRESHOLD).max(limit / LEAST_FRACTION);
        untaken > 0 && untaken.saturating_add(more) > part
    }

    /// Those under way now.
    pub(super) fn all(&self) -> Vec<Arc<Untaken>> {
        self.lock().values().filter_map(Weak::upgrade).collect()
    }

    pub(super) fn now_us(&self) -> u64 {
        self.clock.now_us()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Weak<Untaken>>> {
        // A map of whole entries: a panic elsewhere leaves nothing half done.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client's connection, as far as its answers are concerned.
#[derive(Debug, Default)]
pub struct Client {
    /// Bytes of its answers.
    bytes: AtomicUsize,
    /// Its requests, up to the last byte of their answers.
    requests: AtomicUsize,
    /// When it last took a piece of any of them.
    moved_us: AtomicU64,
    is_closing: AtomicBool,
    close: Notify,
}

impl Client {
    /// A request has come.
    pub fn request_began(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Its answer has been handed over, or nobody waits for it any more.
    pub fn request_ended(&self) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
    }

    /// Waits until the connection is to be closed at once, whatever is under way.
    pub async fn closing(&self) {
        self.close.notified().await;
    }
}

/// An answer that its client has not taken whole.
#[derive(Debug)]
pub struct Untaken {
    answers: Arc<Answers>,
    number: u64,
    client: Arc<Client>,
    stream: Option<StreamTask>,
    /// Bytes that are there for the client.
    bytes: AtomicUsize,
    /// When the client last took a piece, or the first came.
    moved_us: AtomicU64,
    /// The body still is here: its task can be ended.
    has_body: AtomicBool,
    is_reset: AtomicBool,
}

impl Untaken {
    /// Memory of all answers.
    pub fn budget(&self) -> &AnswerBudget {
        &self.answers.budget
    }

    /// Whether it goes over HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.stream.is_some()
    }

    /// So many bytes are there for the client.
    pub fn add(&self, bytes: usize) {
        self.client.bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) == 0 {
            self.moves();
        }
    }

    /// So many are not there any more, whoever has them.
    pub fn sub(&self, bytes: usize) {
        self.client.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The client makes room for more.
    pub fn moves(&self) {
        let now_us = self.answers.clock.now_us();
        self.moved_us.store(now_us, Ordering::Relaxed);
        self.client.moved_us.store(now_us, Ordering::Relaxed);
    }

    /// All of it has been handed over, or nobody wants it.
    pub fn body_ended(&self) {
        self.has_body.store(false, Ordering::Relaxed);
    }

    /// Since when the client takes nothing of what is there; `None` where nothing is.
    pub(super) fn stalled_since_us(&self) -> Option<u64> {
        let is_there = self.bytes.load(Ordering::Relaxed) > 0;
        is_there.then(|| self.moved_us.load(Ordering::Relaxed))
    }

    /// Whether it is a stream that can be reset. Without a body the library has the rest, and only the end of the
    /// connection frees it.
    pub(super) fn can_be_reset(&self) -> bool {
        self.stream.is_some() && self.has_body.load(Ordering::Relaxed)
    }

    /// Whether it is a rest, see [`Untaken::can_be_reset`].
    pub(super) fn is_rest(&self) -> bool {
        self.stream.is_some() && !self.has_body.load(Ordering::Relaxed)
    }

    /// Whether it was given up, and its memory is free in a moment.
    pub(super) fn is_going(&self) -> bool {
        self.client.is_closing.load(Ordering::Relaxed)
            || (self.is_reset.load(Ordering::Relaxed) && self.can_be_reset())
    }

    /// Whether its client has no other request, and has taken nothing of others since then.
    pub(super) fn is_all_since(&self, us: u64) -> bool {
        self.client.requests.load(Ordering::Relaxed) <= 1
            && self.client.moved_us.load(Ordering::Relaxed) <= us
    }

    /// Resets its stream.
    pub(super) fn reset(&self) {
        if let Some(stream) = &self.stream {
            self.is_reset.store(stream.end(), Ordering::Relaxed);
        }
    }

    /// Closes its connection.
    pub(super) fn close(&self) {
        self.client.is_closing.store(true, Ordering::Relaxed);
        self.client.close.notify_one();
    }
}

impl Drop for Untaken {
    fn drop(&mut self) {
        self.answers.lock().remove(&self.number);
    }
}
