//! Execution slot: a plain thread that executes one call at a time, in order of arrival, and keeps time by
//! absolute sleeps on the monotonic clock. Sockets are served elsewhere; the two exchange messages only.
//!
//! Inference is simulated: the thread sleeps for the service time. The response is computed and encoded
//! within that time, so that only the thread's wake-up is added to it.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use hdrhistogram::Histogram;
use tokio::sync::oneshot;

use super::call::{Call, EncodedResponse};
use super::curve::{Curve, ServiceTime};
use super::journal::{Entry, Journal};
use crate::clock;

/// Maximum number of calls that wait for the slot; further ones get 503.
const WAITING_CALLS: usize = 4096;
/// Longest service time that the accuracy histograms can hold, in nanoseconds.
const LONGEST_NS: u64 = 3_600_000_000_000;

/// Reason why a call was not accepted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecutionSlotError {
    /// The maximum number of calls is waiting.
    #[error("{WAITING_CALLS} calls wait for this model already; it executes one at a time")]
    Full,
    /// The server is stopping.
    #[error("this server is stopping")]
    Stopping,
}

enum Message {
    Execute(Call, oneshot::Sender<EncodedResponse>),
    SetCurve(Curve),
    Stop,
}

/// Accuracy of the service times: requested against achieved.
#[derive(Debug, Clone)]
pub struct Accuracy {
    /// Requested service times, in nanoseconds.
    pub asked_ns: Histogram<u64>,
    /// Achieved minus requested service times, in nanoseconds.
    pub late_ns: Histogram<u64>,
    /// Total rows of all calls.
    pub rows: u64,
    /// Sum of the requested times.
    pub asked_total: Duration,
    /// Sum of the achieved times.
    pub achieved_total: Duration,
}

impl Accuracy {
    fn new() -> Self {
        let histogram = || {
            Histogram::new_with_bounds(1, LONGEST_NS, 2)
                .expect("the bounds of an hour in nanoseconds are valid")
        };
        Self {
            asked_ns: histogram(),
            late_ns: histogram(),
            rows: 0,
            asked_total: Duration::ZERO,
            achieved_total: Duration::ZERO,
        }
    }

    fn record(&mut self, rows: usize, asked: Duration, achieved: Duration) {
        self.asked_ns.saturating_record(asked.as_nanos() as u64);
        self.late_ns.saturating_record(achieved.saturating_sub(asked).as_nanos() as u64);
        self.rows += rows as u64;
        self.asked_total += asked;
        self.achieved_total += achieved;
    }

    /// Returns a summary in one sentence.
    pub fn sentence(&self) -> String {
        let us = |ns: u64| ns as f64 / 1000.0;
        format!(
            "{} calls with {} rows: asked {:.3} s, achieved {:.3} s; late by p50 {:.0} µs, p99 {:.0} µs, max {:.0} µs",
            self.late_ns.len(),
            self.rows,
            self.asked_total.as_secs_f64(),
            self.achieved_total.as_secs_f64(),
            us(self.late_ns.value_at_quantile(0.5)),
            us(self.late_ns.value_at_quantile(0.99)),
            us(self.late_ns.max()),
        )
    }
}

/// Handle to the execution slot. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ExecutionSlot {
    messages: Sender<Message>,
    accuracy: Arc<Mutex<Accuracy>>,
}

impl ExecutionSlot {
    /// Starts the thread. After [`ExecutionSlot::stop`] it executes the calls that already wait, then ends.
    pub fn start(
        model: String,
        service: ServiceTime,
        journal: Option<Journal>,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (messages, receiver) = bounded(WAITING_CALLS);
        let accuracy = Arc::new(Mutex::new(Accuracy::new()));
        let shared = Arc::clone(&accuracy);
        let executor = Executor { model, service, journal, accuracy: shared };
        let thread =
            std::thread::Builder::new().name("slot".into()).spawn(move || executor.run(&receiver))?;
        Ok((Self { messages, accuracy }, thread))
    }

    /// Submits a call; the receiver yields its response once the slot has executed it.
    ///
    /// # Errors
    /// The queue is full, or the server is stopping.
    pub fn execute(&self, call: Call) -> Result<oneshot::Receiver<EncodedResponse>, ExecutionSlotError> {
        let (sender, answer) = oneshot::channel();
        self.send(Message::Execute(call, sender))?;
        Ok(answer)
    }

    /// Changes α and β for calls submitted from now on.
    ///
    /// # Errors
    /// The queue is full, or the server is stopping.
    pub fn set_curve(&self, curve: Curve) -> Result<(), ExecutionSlotError> {
        self.send(Message::SetCurve(curve))
    }

    /// Tells the thread to end after the calls that already wait. Blocks while the queue is full.
    pub fn stop(&self) {
        // Fails only when the thread has already ended.
        let _ = self.messages.send(Message::Stop);
    }

    /// Returns the accuracy so far.
    pub fn accuracy(&self) -> Accuracy {
        self.accuracy.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the number of waiting calls.
    pub fn waiting(&self) -> usize {
        self.messages.len()
    }

    fn send(&self, message: Message) -> Result<(), ExecutionSlotError> {
        self.messages.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) => ExecutionSlotError::Full,
            TrySendError::Disconnected(_) => ExecutionSlotError::Stopping,
        })
    }
}

struct Executor {
    model: String,
    service: ServiceTime,
    journal: Option<Journal>,
    accuracy: Arc<Mutex<Accuracy>>,
}

impl Executor {
    fn run(mut self, messages: &Receiver<Message>) {
        clock::keep_time_on_this_thread();
        for message in messages {
            match message {
                Message::Execute(call, answer) => self.execute(&call, answer),
                Message::SetCurve(curve) => self.service.set_curve(curve),
                Message::Stop => break,
            }
        }
        if let Some(journal) = &self.journal
            && let Err(error) = journal.sync()
        {
            tracing::error!(%error, "Failed to sync the journal; its last entries may be missing on disk.");
        }
    }

    fn execute(&mut self, call: &Call, answer: oneshot::Sender<EncodedResponse>) {
        let began_ns = clock::now_ns();
        let rows = call.batch.ids.len();
        let asked = self.service.next(rows);
        if let Some(journal) = &mut self.journal {
            let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let service_us = asked.as_micros() as u64;
            let entry = Entry::new(since_1970.as_micros() as u64, &call.batch.ids, call.form, service_us);
            if let Err(error) = journal.write(&entry) {
                tracing::error!(%error, "Failed to write a call to the journal.");
            }
        }
        let encoded = call.answer(&self.model);
        clock::sleep_until_ns(began_ns + asked.as_nanos() as u64);
        let achieved = Duration::from_nanos(clock::now_ns() - began_ns);
        // The client may have disconnected; the call counts all the same.
        let _ = answer.send(encoded);
        self.accuracy.lock().unwrap_or_else(PoisonError::into_inner).record(rows, asked, achieved);
    }
}
