//! Answers under way, and how much of each its client has taken.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;

use super::budget::AnswerBudget;
use super::stream_task::StreamTask;
use crate::clock::Clock;

/// A connection may hold this many times the free bytes of the budget; its part shrinks as the budget fills …
const THRESHOLD: usize = 8;
/// … but not below the budget's limit divided by this.
const LEAST_FRACTION: usize = 16;

/// All answers under way.
#[derive(Debug)]
pub struct Answers {
    /// Memory of all answers.
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

    /// Registers an answer that begins now.
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

    /// Returns whether the client's connection would hold more than its part of the budget with `more` further bytes. A
    /// connection that holds nothing is never beyond its part.
    pub fn is_beyond_part(&self, client: &Client, more: usize) -> bool {
        let untaken = client.bytes.load(Ordering::Relaxed);
        let limit = self.budget.limit();
        let free = limit.saturating_sub(self.budget.used());
        let part = free.saturating_mul(THRESHOLD).max(limit / LEAST_FRACTION);
        untaken > 0 && untaken.saturating_add(more) > part
    }

    /// Returns the answers under way now.
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

/// The answers of one client's connection.
#[derive(Debug, Default)]
pub struct Client {
    /// Bytes of its answers that the client has not taken.
    bytes: AtomicUsize,
    /// Requests on this connection whose answers have not been handed over completely.
    requests: AtomicUsize,
    /// When the client last took a piece of any answer, in microseconds of the process's clock.
    moved_us: AtomicU64,
    is_closing: AtomicBool,
    close: Notify,
}

impl Client {
    /// Counts a request that has come.
    pub fn request_began(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts out a request whose answer has been handed over, or is not wanted any more.
    pub fn request_ended(&self) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
    }

    /// Waits until the connection is to be closed at once, whatever is under way.
    pub async fn closing(&self) {
        self.close.notified().await;
    }
}

/// An answer that its client has not taken completely.
#[derive(Debug)]
pub struct Untaken {
    answers: Arc<Answers>,
    number: u64,
    client: Arc<Client>,
    stream: Option<StreamTask>,
    /// Bytes that are there for the client.
    bytes: AtomicUsize,
    /// When the client last took a piece, or the first bytes came, in microseconds of the process's clock.
    moved_us: AtomicU64,
    /// Whether the body still exists, so that its task can be ended.
    has_body: AtomicBool,
    is_reset: AtomicBool,
}

impl Untaken {
    /// Returns the budget of all answers.
    pub fn budget(&self) -> &AnswerBudget {
        &self.answers.budget
    }

    /// Returns whether the answer goes over HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.stream.is_some()
    }

    /// Adds bytes that are there for the client.
    pub fn add(&self, bytes: usize) {
        self.client.bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) == 0 {
            self.moves();
        }
    }

    /// Subtracts bytes that are not there any more, taken or dropped.
    pub fn sub(&self, bytes: usize) {
        self.client.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Notes that the client takes bytes now.
    pub fn moves(&self) {
        let now_us = self.answers.clock.now_us();
        self.moved_us.store(now_us, Ordering::Relaxed);
        self.client.moved_us.store(now_us, Ordering::Relaxed);
    }

    /// Notes that the body has been handed over completely, or dropped.
    pub fn body_ended(&self) {
        self.has_body.store(false, Ordering::Relaxed);
    }

    /// Returns the time since which the client has taken nothing of what is there, in microseconds of the process's
    /// clock; `None` if nothing is there.
    pub(super) fn stalled_since_us(&self) -> Option<u64> {
        let is_there = self.bytes.load(Ordering::Relaxed) > 0;
        is_there.then(|| self.moved_us.load(Ordering::Relaxed))
    }

    /// Returns whether the answer is an HTTP/2 stream that can be reset. Once the body is gone, the HTTP library has
    /// the rest, and only closing the connection frees it.
    pub(super) fn can_be_reset(&self) -> bool {
        self.stream.is_some() && self.has_body.load(Ordering::Relaxed)
    }

    /// Returns whether the answer is a rest that the HTTP library holds, see [`Untaken::can_be_reset`].
    pub(super) fn is_rest(&self) -> bool {
        self.stream.is_some() && !self.has_body.load(Ordering::Relaxed)
    }

    /// Returns whether the answer was given up, so that its memory is free in a moment.
    pub(super) fn is_going(&self) -> bool {
        self.client.is_closing.load(Ordering::Relaxed)
            || (self.is_reset.load(Ordering::Relaxed) && self.can_be_reset())
    }

    /// Returns whether its connection has no other request, and the client has taken nothing of any answer since `us`.
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
