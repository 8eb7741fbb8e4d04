//! What everybody but its owner knows of a gate: where to knock, and what to say of a stream on its way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::{mpsc, oneshot};

use super::metrics::StreamMetrics;
use crate::clock::Clock;
use crate::failure::Failure;

/// A message to the owner. Their number is bounded by the requests in the process and by the scrapes under way.
#[derive(Debug)]
pub(super) enum StreamEvent {
    /// A request arrives.
    Arrived(StreamRequest),
    /// A client that waited may have left.
    Left,
    /// A stream's first token came, so many seconds after it was sent.
    FirstToken(f64),
    /// A stream has ended.
    Ended {
        /// Its weight.
        weight: f64,
        /// From its start, where it came to its own end.
        seconds: Option<f64>,
    },
    /// Set the gauges. `has_queue`: the model also has a queue for batches, which sets the gauge of latched demand
    /// to 0.
    Refresh { has_queue: bool, done: oneshot::Sender<()> },
    /// The process ends.
    Retire,
}

/// A request at the gate.
#[derive(Debug)]
pub struct StreamRequest {
    /// Its priority class.
    pub class: u8,
    /// When it must have started.
    pub deadline_us: u64,
    /// Its cost in tokens, where it is known.
    pub tokens: Option<u64>,
    /// Where the answer goes.
    pub reply: oneshot::Sender<AdmissionDecision>,
}

/// What becomes of it.
#[derive(Debug)]
pub enum AdmissionDecision {
    /// It may be sent.
    Start(Permit),
    /// It may not.
    Refused(Failure),
}

/// The handle of one gate.
#[derive(Debug)]
pub struct StreamHandle {
    /// The label `model`.
    pub label: Arc<str>,
    /// Its series.
    pub metrics: StreamMetrics,
    /// The process's clock.
    pub clock: Clock,
    events: mpsc::UnboundedSender<StreamEvent>,
    /// Tokens (or answers) since the owner last looked.
    work: AtomicU64,
    /// Requests that are here.
    here: AtomicUsize,
    /// When the last one came or went.
    used_us: AtomicU64,
}

impl StreamHandle {
    pub(super) fn new(label: Arc<str>, clock: Clock, events: mpsc::UnboundedSender<StreamEvent>) -> Self {
        Self {
            metrics: StreamMetrics::new(&label),
            label,
            events,
            work: AtomicU64::new(0),
            here: AtomicUsize::new(0),
            used_us: AtomicU64::new(clock.now_us()),
            clock,
        }
    }

    /// A request has come.
    pub(super) fn came(&self) {
        self.here.fetch_add(1, Ordering::Relaxed);
        self.used_us.store(self.clock.now_us(), Ordering::Relaxed);
    }

    /// A request has gone.
    pub(super) fn went(&self) {
        self.used_us.store(self.clock.now_us(), Ordering::Relaxed);
        self.here.fetch_sub(1, Ordering::Relaxed);
    }

    /// For how long it has been without requests; `None` while there are some.
    pub(super) fn idle_us(&self, now_us: u64) -> Option<u64> {
        let is_idle = self.here.load(Ordering::Relaxed) == 0;
        is_idle.then(|| now_us.saturating_sub(self.used_us.load(Ordering::Relaxed)))
    }

    /// Waits at the gate. Dropping the future takes the request out again.
    pub async fn knock(&self, class: u8, deadline_us: u64, tokens: Option<u64>) -> AdmissionDecision {
        let (reply, verdict) = oneshot::channel();
        self.tell(StreamEvent::Arrived(StreamRequest { class, deadline_us, tokens, reply }));
        let mut waits = Waits { handle: self, verdict };
        (&mut waits.verdict).await.unwrap_or_else(|_| {
            AdmissionDecision::Refused(Failure::new(503, "the batcher stopped before the request was served"))
        })
    }

    /// So many tokens (or answers) have come.
    pub fn count_work(&self, units: u64) {
        self.work.fetch_add(units, Ordering::Relaxed);
    }

    /// Has the owner set the gauges.
    pub async fn refresh(&self, has_queue: bool) {
        let (done, refreshed) = oneshot::channel();
        self.tell(StreamEvent::Refresh { has_queue, done });
        // An owner that has retired answers nothing.
        let _ = refreshed.await;
    }

    /// What waits is answered with an error, and what comes.
    pub fn retire(&self) {
        self.tell(StreamEvent::Retire);
    }

    pub(super) fn take_work(&self) -> u64 {
        self.work.swap(0, Ordering::Relaxed)
    }

    pub(super) fn tell(&self, event: StreamEvent) {
        // An owner that has retired needs no telling; a request's reply is dropped with its message.
        let _ = self.events.send(event);
    }
}

/// A request that waits for its verdict.
struct Waits<'a> {
    handle: &'a StreamHandle,
    verdict: oneshot::Receiver<AdmissionDecision>,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if !self.verdict.is_terminated() {
            self.verdict.close();
            self.handle.tell(StreamEvent::Left);
        }
    }
}

/// The right to have one stream in flight, until it is dropped.
#[derive(Debug)]
pub struct Permit {
    handle: Arc<StreamHandle>,
    weight: f64,
    started_us: u64,
    came_to_its_end: bool,
}

impl Permit {
    pub(super) fn new(handle: Arc<StreamHandle>, weight: f64, started_us: u64) -> Self {
        Self { handle, weight, started_us, came_to_its_end: false }
    }

    /// Nobody broke it off: its duration tells how long streams take.
    pub fn came_to_its_end(&mut self) {
        self.came_to_its_end = true;
    }

    /// The first token has come.
    pub fn first_token(&self) {
        self.handle.tell(StreamEvent::FirstToken(self.seconds()));
    }

    fn seconds(&self) -> f64 {
        self.handle.clock.now_us().saturating_sub(self.started_us) as f64 / 1e6
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let seconds = self.came_to_its_end.then(|| self.seconds());
        self.handle.tell(StreamEvent::Ended { weight: self.weight, seconds });
    }
}
