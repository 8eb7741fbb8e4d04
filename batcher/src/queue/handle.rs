//! Shared handle to one model's queue: submit requests, send messages to its owner, read the forecast.

// A request is several hundred bytes and changes hands often: its box is moved, not the request.
#![allow(clippy::vec_box)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use sluice_batch_policy::{Admission, Flow, Forecast, ShapeClass};
use sluice_protocol::{InferRequest, ModelSignature};
use tokio::sync::oneshot;

use super::mailbox::Mailbox;
use super::occupancy::Occupancy;
use super::published::PublishedForecast;
use super::samples::Samples;
use super::{Entry, Message, QueueEvent};
use crate::clock::Clock;
use crate::metrics::ModelMetrics;
use crate::observe::orca::Load;
use crate::retry_after::RetryAfter;
use crate::settings::Live;
use crate::slots::{Grant, SlotUser};
use crate::upstream::models::ServedModel;
use crate::upstream::slot::Slot;

/// The handle of one model's queue.
#[derive(Debug)]
pub struct ModelHandle {
    /// Number of the handle, unique in the process: an earlier handle of the same model had another.
    pub number: u64,
    /// Name of the model.
    pub model: Arc<str>,
    /// Metrics of the model.
    pub metrics: ModelMetrics,
    /// Settings of the process, as they are now.
    pub settings: Live,
    /// Clock of the process.
    pub clock: Clock,
    /// Recorded requests, to warm model servers with.
    pub samples: Samples,
    mailbox: Mailbox<Box<Entry>, Message>,
    occupancy: Occupancy,
    /// When the owner will look for expired requests by itself (microseconds of the process's clock).
    expiry_us: AtomicU64,
    forecast: PublishedForecast,
    signature: ArcSwapOption<ModelSignature>,
    /// When a client last asked for the model (microseconds of the process's clock); 0: never.
    asked_us: AtomicU64,
}

impl ModelHandle {
    pub(crate) fn new(model: Arc<str>, label: &str, settings: Live, clock: Clock) -> Self {
        static HANDLES: AtomicU64 = AtomicU64::new(0);
        Self {
            number: HANDLES.fetch_add(1, Ordering::Relaxed),
            metrics: ModelMetrics::new(label),
            model,
            clock,
            samples: Samples::default(),
            mailbox: Mailbox::new(settings.now().limits.queue_requests),
            settings,
            occupancy: Occupancy::default(),
            expiry_us: AtomicU64::new(0),
            forecast: PublishedForecast::default(),
            signature: ArcSwapOption::empty(),
            asked_us: AtomicU64::new(0),
        }
    }

    /// Puts a request into the queue.
    ///
    /// # Errors
    /// The queue, or its tenant's part of it, is full; the request is returned.
    pub fn submit(&self, mut entry: Box<Entry>) -> Result<(), Box<Entry>> {
        if !self.occupancy.enter(&mut entry, self.settings.now().limits.queue_requests) {
            return Err(entry);
        }
        let is_early = entry.deadline_us < self.expiry_us.load(Ordering::Relaxed);
        self.mailbox.submit(entry, |unserved| self.left(&unserved)).inspect_err(|entry| self.left(entry))?;
        if is_early {
            self.mailbox.wake();
        }
        Ok(())
    }

    /// Sends a message to the owner.
    pub fn tell(&self, message: impl Into<Message>) {
        // After the owner's end a message is dropped, which completes a refresh and gives a slot up.
        self.mailbox.tell(message.into(), |unserved| self.left(&unserved));
    }

    /// Makes the owner set the gauges, and waits until they are set.
    pub async fn refresh(&self) {
        let (done, refreshed) = oneshot::channel();
        self.tell(Message::Refresh(done));
        // The owner of a retired model does not answer.
        let _ = refreshed.await;
    }

    /// Decides whether to take in a request that arrives now. `class`: shape class of its rows; `None` where it may not be
    /// merged.
    pub fn admit(
        &self,
        now_us: u64,
        deadline_us: u64,
        rows: u32,
        flow: Flow,
        class: Option<ShapeClass>,
    ) -> Admission {
        let forecast = self.forecast.get();
        let rows_ahead = self.occupancy.rows_ahead(flow, rows);
        forecast.admit(&forecast.view(now_us, deadline_us, rows, rows_ahead), class)
    }

    /// Records that a client asks for the model: model servers that have it are to be warmed for it.
    pub fn ask(&self) {
        self.asked_us.store(self.clock.now_us().max(1), Ordering::Relaxed);
    }

    /// Returns when a client last asked for the model (microseconds of the process's clock); 0: never.
    pub fn asked_us(&self) -> u64 {
        self.asked_us.load(Ordering::Relaxed)
    }

    /// Counts what waits by class and tenant from now on: they take part in the order.
    pub fn rank(&self) {
        self.occupancy.rank();
    }

    /// Returns the time after which to try again where the queue is full: when the requests that wait now will have been
    /// served.
    pub fn retry_after(&self, now_us: u64) -> RetryAfter {
        self.forecast.retry_after(now_us, self.queued_rows())
    }

    /// Returns whether a model server has the model and a warm slot for it.
    pub fn is_servable(&self) -> bool {
        !self.is_cold() && self.absent_at() == 0
    }

    /// Returns whether no model server has a warm slot for the model.
    pub fn is_cold(&self) -> bool {
        self.forecast.is_cold()
    }

    /// Returns the latency objective of the model, milliseconds.
    pub fn objective_ms(&self) -> u64 {
        self.settings.now().batching.of_model(&self.model).objective_ms
    }

    /// Returns how much there is to do, by the forecast that the owner published last.
    pub fn load(&self) -> Load {
        self.forecast.load(self.clock.now_us(), self.queued_rows())
    }

    /// Returns the forecast that the owner published last.
    pub(super) fn forecast(&self) -> Arc<Forecast> {
        self.forecast.get()
    }

    /// Returns how many rows wait.
    pub fn queued_rows(&self) -> u64 {
        self.occupancy.rows()
    }

    /// Returns the signature of the model's tensors; `None` where its metadata is not known.
    pub fn signature(&self) -> Option<Arc<ModelSignature>> {
        self.signature.load_full()
    }

    /// Returns how many model servers report that they do not have the model; 0 where one has it.
    pub fn absent_at(&self) -> usize {
        self.forecast.absent_at()
    }
}

impl SlotUser for ModelHandle {
    fn number(&self) -> u64 {
        self.number
    }

    fn granted(&self, grant: Grant) {
        self.tell(QueueEvent::Granted(grant));
    }
}

impl ServedModel for ModelHandle {
    fn name(&self) -> &Arc<str> {
        &self.model
    }

    fn queued_rows(&self) -> u64 {
        Self::queued_rows(self)
    }

    fn asked_us(&self) -> u64 {
        Self::asked_us(self)
    }

    fn now_us(&self) -> u64 {
        self.clock.now_us()
    }

    fn samples(&self) -> Vec<InferRequest> {
        self.samples.all()
    }

    fn set_signature(&self, signature: Option<Arc<ModelSignature>>) {
        self.signature.store(signature);
    }

    fn warmed(&self, times: Vec<(u32, f64)>) {
        self.tell(QueueEvent::Warmed(times));
    }

    fn give(&self, slot: Slot) {
        self.tell(Message::Slot(slot));
    }

    fn slots_changed(&self) {
        self.tell(QueueEvent::SlotsChanged);
    }
}

/// The owner's side.
impl ModelHandle {
    /// Drops the requests that wait and those that still come, which answers their clients with an error.
    pub(super) fn retire(&self) {
        self.mailbox.retire(|unserved| self.left(&unserved));
    }

    pub(super) fn next_entry(&self) -> Option<Box<Entry>> {
        self.mailbox.next_item()
    }

    pub(super) fn next_message(&self) -> Option<Message> {
        self.mailbox.next_message()
    }

    /// Removes a request that no longer waits from the counts.
    pub(super) fn left(&self, entry: &Entry) {
        self.occupancy.leave(entry);
    }

    /// Counts a request that was in flight and waits again.
    pub(super) fn came_back(&self, entry: &mut Entry) {
        self.occupancy.come_back(entry);
    }

    /// Records that these requests were dispatched as a batch.
    pub(super) fn served<'a>(&self, batch: impl Iterator<Item = &'a Entry> + Clone) {
        self.occupancy.served(batch);
    }

    /// Sets when the owner will look for expired requests by itself: a request that is due before wakes it.
    pub(super) fn set_expiry_us(&self, expiry_us: u64) {
        self.expiry_us.store(expiry_us, Ordering::Relaxed);
    }

    pub(super) fn publish(&self, forecast: Forecast) {
        self.forecast.publish(forecast);
    }

    /// Announces whether arrivals should wake the owner. Returns true where something is there already, so that
    /// it must not sleep.
    pub(super) fn listen(&self, for_arrivals: bool) -> bool {
        self.mailbox.listen(for_arrivals)
    }

    pub(super) async fn woken(&self) {
        self.mailbox.woken().await;
    }
}
