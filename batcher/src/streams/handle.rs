//! Handle of a stream admission: lets requests wait for admission, and reports on streams under way to the owner.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::{mpsc, oneshot};

use super::metrics::StreamMetrics;
use crate::clock::Clock;
use crate::failure::Failure;

/// A message to the owner. The number of messages is bounded by the requests in the process and the scrapes under way.
#[derive(Debug)]
pub(super) enum StreamEvent {
    /// A request has arrived.
    Arrived(StreamRequest),
    /// A client that waited may have left.
    Left,
    /// The first token of a stream came this many seconds after the stream was admitted.
    FirstToken(f64),
    /// A stream has ended.
    Ended {
        /// Weight of the stream.
        weight: f64,
        /// Duration of the stream since its admission; `None` if it was broken off.
        seconds: Option<f64>,
    },
    /// Set the gauges. `has_queue`: whether the model also has a queue for batches, which then resets the gauge of
    /// latched demand.
    Refresh { has_queue: bool, done: oneshot::Sender<()> },
    /// The process ends.
    Retire,
}

/// A request for admission of a stream.
#[derive(Debug)]
pub struct StreamRequest {
    /// Priority class; 0 is served first.
    pub class: u8,
    /// Time by which the stream must have started, in microseconds of the process's clock.
    pub deadline_us: u64,
    /// Upper bound of its cost in tokens; `None` if unknown.
    pub tokens: Option<u64>,
    /// Channel for the decision.
    pub reply: oneshot::Sender<AdmissionDecision>,
}

/// Decision on a request for admission.
#[derive(Debug)]
pub enum AdmissionDecision {
    /// The request may be sent.
    Start(Permit),
    /// The request was rejected.
    Refused(Failure),
}

/// Handle of the stream admission of one model.
#[derive(Debug)]
pub struct StreamHandle {
    /// Value of the label `model`.
    pub label: Arc<str>,
    /// Series of the model's streams.
    pub metrics: StreamMetrics,
    /// The process's clock.
    pub clock: Clock,
    events: mpsc::UnboundedSender<StreamEvent>,
    /// Tokens (or whole answers) that came since the owner last took the count.
    work: AtomicU64,
    /// Number of requests that wait or run.
    here: AtomicUsize,
    /// When a request last came or ended, in microseconds of the process's clock.
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

    /// Counts a request that has come.
    pub(super) fn came(&self) {
        self.here.fetch_add(1, Ordering::Relaxed);
        self.used_us.store(self.clock.now_us(), Ordering::Relaxed);
    }

    /// Counts out a request that has ended.
    pub(super) fn went(&self) {
        self.used_us.store(self.clock.now_us(), Ordering::Relaxed);
        self.here.fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns for how long there have been no requests; `None` while there are some.
    pub(super) fn idle_us(&self, now_us: u64) -> Option<u64> {
        let is_idle = self.here.load(Ordering::Relaxed) == 0;
        is_idle.then(|| now_us.saturating_sub(self.used_us.load(Ordering::Relaxed)))
    }

    /// Waits for admission. Dropping the future withdraws the request.
    pub async fn knock(&self, class: u8, deadline_us: u64, tokens: Option<u64>) -> AdmissionDecision {
        let (reply, verdict) = oneshot::channel();
        self.tell(StreamEvent::Arrived(StreamRequest { class, deadline_us, tokens, reply }));
        let mut waits = Waits { handle: self, verdict };
        (&mut waits.verdict).await.unwrap_or_else(|_| {
            AdmissionDecision::Refused(Failure::new(503, "the batcher stopped before the request was served"))
        })
    }

    /// Counts tokens (or whole answers) that have come.
    pub fn count_work(&self, units: u64) {
        self.work.fetch_add(units, Ordering::Relaxed);
    }

    /// Makes the owner set the gauges, and waits until it has.
    pub async fn refresh(&self, has_queue: bool) {
        let (done, refreshed) = oneshot::channel();
        self.tell(StreamEvent::Refresh { has_queue, done });
        // An owner that has retired answers nothing.
        let _ = refreshed.await;
    }

    /// Ends the owner: requests that wait or come later get an error.
    pub fn retire(&self) {
        self.tell(StreamEvent::Retire);
    }

    pub(super) fn take_work(&self) -> u64 {
        self.work.swap(0, Ordering::Relaxed)
    }

    pub(super) fn tell(&self, event: StreamEvent) {
        // If the owner has retired, the message is dropped, and with it the reply channel of a request.
        let _ = self.events.send(event);
    }
}

/// A request that waits for its decision.
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

/// Permission to have one stream in flight; given back when dropped.
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

    /// Notes that the stream was not broken off, so that its duration counts.
    pub fn came_to_its_end(&mut self) {
        self.came_to_its_end = true;
    }

    /// Reports that the first token has come.
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
