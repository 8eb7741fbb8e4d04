//! Shared handle to one model's queue: submit requests, send messages to its owner, read the forecast.

// A request is several hundred bytes and changes hands often: its box is moved, not the request.
#![allow(clippy::vec_box)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use sluice_batch_policy::{Admission, Flow, Forecast, ShapeClass};
use sluice_protocol::{InferRequest, ModelSignature};
use tokio::sync::oneshot;

use super::mailbox::Mailbox;
use super::occupancy::Occupancy;
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
    /// Tells it from all others, those that had its name before too.
    pub number: u64,
    /// The model's name.
    pub model: Arc<str>,
    /// Its metrics.
    pub metrics: ModelMetrics,
    /// The settings.
    pub settings: Live,
    /// The process's clock.
    pub clock: Clock,
    /// Requests to warm model servers with.
    pub samples: Samples,
    mailbox: Mailbox<Box<Entry>, Message>,
    occupancy: Occupancy,
    /// When the owner will look for overdue requests by itself.
    expiry_us: AtomicU64,
    forecast: ArcSwap<Forecast>,
    signature: ArcSwapOption<ModelSignature>,
    /// When somebody asked for it last (microseconds of the process's clock); 0: nobody has.
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
            forecast: ArcSwap::default(),
            signature: ArcSwapOption::empty(),
            asked_us: AtomicU64::new(0),
        }
    }

    /// Puts a request into the queue.
    ///
    /// # Errors
    /// The queue, or its tenant's part of it, is full; the request comes back.
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
        // Dropped, refreshes are answered and slots given up.
        self.mailbox.tell(message.into(), |unserved| self.left(&unserved));
    }

    /// Has the owner set the gauges.
    pub async fn refresh(&self) {
        let (done, refreshed) = oneshot::channel();
        self.tell(Message::Refresh(done));
        // The owner of a retired model answers nothing.
        let _ = refreshed.await;
    }

    /// Decides about a request that arrives now. `class`: of its rows, where it may be merged.
    pub fn admit(
        &self,
        now_us: u64,
        deadline_us: u64,
        rows: u32,
        flow: Flow,
        class: Option<ShapeClass>,
    ) -> Admission {
        let forecast = self.forecast.load();
        let rows_ahead = self.occupancy.rows_ahead(flow, rows);
        forecast.admit(&forecast.view(now_us, deadline_us, rows, rows_ahead), class)
    }

    /// Somebody asks for the model: where it is not warm, it is to be warmed.
    pub fn ask(&self) {
        self.asked_us.store(self.clock.now_us().max(1), Ordering::Relaxed);
    }

    /// When somebody asked for it last; 0: nobody has.
    pub fn asked_us(&self) -> u64 {
        self.asked_us.load(Ordering::Relaxed)
    }

    /// From now on classes or tenants play a part in the order.
    pub fn rank(&self) {
        self.occupancy.rank();
    }

    /// Returns the time after which to try again where the ring is full: when the requests that wait now will have been
    /// served.
    pub fn retry_after(&self, now_us: u64) -> RetryAfter {
        RetryAfter::predicted(self.forecast.load().wait_us(now_us, self.queued_rows()))
    }

    /// Whether some model server has it, warm.
    pub fn is_servable(&self) -> bool {
        !self.is_cold() && self.absent_at() == 0
    }

    /// Whether no model server has a warm slot for it.
    pub fn is_cold(&self) -> bool {
        self.forecast.load().slots == 0
    }

    /// The latency objective.
    pub fn objective_ms(&self) -> u64 {
        self.settings.now().batching.of_model(&self.model).objective_ms
    }

    /// How much there is to do, by what the owner last said.
    pub fn load(&self) -> Load {
        let forecast = self.forecast.load();
        let queued_rows = self.queued_rows();
        let wait_us = forecast.wait_us(self.clock.now_us(), queued_rows);
        Load {
            slots: forecast.slots,
            busy_slots: forecast.slots.saturating_sub(forecast.free_slots),
            queued_rows,
            queued_batches: queued_rows as f64 / f64::from(forecast.limit_rows.max(1)),
            predicted_wait_seconds: wait_us.unwrap_or(0) as f64 / 1e6,
        }
    }

    /// Returns what the owner published last.
    pub(super) fn forecast(&self) -> Arc<Forecast> {
        self.forecast.load_full()
    }

    /// Returns how many rows wait.
    pub fn queued_rows(&self) -> u64 {
        self.occupancy.rows()
    }

    /// What the model's metadata says of its tensors, where it does.
    pub fn signature(&self) -> Option<Arc<ModelSignature>> {
        self.signature.load_full()
    }

    /// How many model servers say that they do not have it; 0 where one has it.
    pub fn absent_at(&self) -> usize {
        self.forecast.load().absent_at
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
    /// Nobody will serve what waits or comes: dropping it has its clients told.
    pub(super) fn retire(&self) {
        self.mailbox.retire(|unserved| self.left(&unserved));
    }

    pub(super) fn next_entry(&self) -> Option<Box<Entry>> {
        self.mailbox.next_item()
    }

    pub(super) fn next_message(&self) -> Option<Message> {
        self.mailbox.next_message()
    }

    /// A request no longer waits.
    pub(super) fn left(&self, entry: &Entry) {
        self.occupancy.leave(entry);
    }

    /// A request that was in flight waits again.
    pub(super) fn came_back(&self, entry: &mut Entry) {
        self.occupancy.come_back(entry);
    }

    /// These were dispatched together.
    pub(super) fn served<'a>(&self, batch: impl Iterator<Item = &'a Entry> + Clone) {
        self.occupancy.served(batch);
    }

    /// When the owner will look for overdue requests by itself: those that are due before wake it.
    pub(super) fn set_expiry_us(&self, expiry_us: u64) {
        self.expiry_us.store(expiry_us, Ordering::Relaxed);
    }

    pub(super) fn publish(&self, forecast: Forecast) {
        self.forecast.store(Arc::new(forecast));
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
