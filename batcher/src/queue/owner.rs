//! The owner of one model's queue: the only task that knows what waits, which slots are free and how fast the
//! model is. It decides by `sluice_batch_policy` and leaves the doing to a task per batch.

use std::sync::Arc;

use sluice_batch_policy::{BatchSizes, Lane, ShapeClass, WaitQueue};
use sluice_protocol::MergeKey;

use super::curves::Curves;
use super::dispatch::{self, Finished};
use super::gauges::{View, Windows};
use super::handle::Event;
use super::sizes::allowed_prefix;
use super::{Entry, Failure, Forecast, ModelHandle, Reply, Slot};
use crate::metrics::{Refusal, Release};

/// Class of requests that were in flight when a connection broke: they are served first.
const CLASS_AGAIN: u8 = 0;
/// Class of all others.
const CLASS_NEW: u8 = 1;
/// Batches that the owner looks ahead, to put what waits in order; the rest waits in the ring.
const LOOKAHEAD_BATCHES: usize = 2;
/// What may share a batch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    /// The class follows from the key.
    Merge(MergeKey, ShapeClass),
    Alone(u64),
}

impl Key {
    /// Whose curve its batches follow. What goes alone counts as one row, whatever it holds: no curve of a shape.
    fn class(&self) -> Option<ShapeClass> {
        match self {
            Self::Merge(_, class) => Some(*class),
            Self::Alone(_) => None,
        }
    }
}

/// A batch in flight.
struct Running {
    number: u64,
    class: Option<ShapeClass>,
    /// When it is expected to end.
    end_us: u64,
}

/// Runs until the model is retired.
pub(crate) async fn run(handle: Arc<ModelHandle>) {
    let mut owner = Owner::new(handle);
    loop {
        owner.turn();
        if owner.retired {
            break;
        }
        if owner.handle.listen(owner.wants_arrivals()) {
            continue;
        }
        match owner.next_expiry_us() {
            None => owner.handle.woken().await,
            Some(at_us) => {
                let at = owner.handle.clock.instant(at_us);
                // Either way the next turn sees what there is to do.
                let _ = tokio::time::timeout_at(at, owner.handle.woken()).await;
            }
        }
    }
    owner.handle.retire();
}

struct Owner {
    handle: Arc<ModelHandle>,
    pending: WaitQueue<Key, Box<Entry>>,
    idle: Vec<Slot>,
    running: Vec<Running>,
    next_batch: u64,
    next_alone: u64,
    curves: Curves,
    sizes: BatchSizes,
    allowed: Option<Vec<u32>>,
    /// Requests that arrived before this were held for want of a slot; their deadline is the hold time.
    held_before_us: u64,
    latched: bool,
    windows: Windows,
    lookahead: usize,
    retired: bool,
}

impl Owner {
    fn new(handle: Arc<ModelHandle>) -> Self {
        let now_us = handle.clock.now_us();
        let mut owner = Self {
            pending: WaitQueue::new(),
            idle: Vec::new(),
            running: Vec::new(),
            next_batch: 0,
            next_alone: 0,
            curves: Curves::new(),
            sizes: BatchSizes::up_to(1),
            allowed: None,
            held_before_us: 0,
            latched: false,
            windows: Windows::new(now_us),
            lookahead: LOOKAHEAD_BATCHES,
            retired: false,
            handle,
        };
        owner.apply_settings();
        owner
    }

    fn apply_settings(&mut self) {
        let settings = self.handle.settings.now();
        self.handle.metrics.set_objective(settings.objective_ms);
        self.allowed = (!settings.allowed_batch_rows.is_empty()).then(|| settings.batch_sizes());
        self.sizes = match &self.allowed {
            Some(allowed) => BatchSizes::allowed(settings.max_batch_rows, allowed),
            None => BatchSizes::up_to(settings.max_batch_rows),
        };
        self.lookahead = LOOKAHEAD_BATCHES * settings.max_batch_rows as usize;
    }

    /// Everything that can be done now.
    fn turn(&mut self) {
        let mut changed = false;
        while let Some(event) = self.handle.next_event() {
            changed |= self.on(event);
        }
        self.pull();
        while !self.pending.is_empty() && self.dispatch_one() {
            changed = true;
            self.pull();
        }
        if self.slots() == 0 {
            self.hold();
        } else if self.pending.is_empty() {
            self.latched = false;
        }
        if changed {
            self.publish();
        }
    }

    /// Takes a message in; true where the forecast changes with it.
    fn on(&mut self, event: Event) -> bool {
        match event {
            Event::Slot(slot) => {
                self.drop_void_slots();
                if self.slots() == 0 {
                    self.held_before_us = self.handle.clock.now_us();
                }
                self.idle.push(slot);
            }
            Event::Warmed(times) => {
                for (rows, seconds) in times {
                    self.curves.observe(None, rows, seconds);
                }
            }
            Event::Finished(finished) => self.finished(finished),
            Event::Again(entries) => self.again(entries),
            Event::SlotsChanged => self.drop_void_slots(),
            Event::SettingsChanged => self.apply_settings(),
            Event::Refresh(done) => {
                self.set_gauges();
                let _ = done.send(());
                return false;
            }
            Event::Retire => self.retired = true,
        }
        true
    }

    fn finished(&mut self, finished: Finished) {
        let at = self.running.iter().position(|running| running.number == finished.number);
        let class = at.and_then(|at| self.running.swap_remove(at).class);
        for (rows, seconds) in finished.times {
            self.curves.observe(class, rows, seconds);
            self.latched = false;
        }
        self.idle.extend(finished.slot.filter(Slot::is_current));
        self.again(finished.again);
    }

    #[allow(clippy::vec_box)] // As they come from the dispatch.
    fn again(&mut self, entries: Vec<Box<Entry>>) {
        for entry in entries {
            self.handle.came_back(entry.rows);
            let deadline_us = self.hold_deadline_us(&entry);
            self.place(entry, CLASS_AGAIN, deadline_us);
        }
    }

    /// Moves arrivals from the ring to where they can be put in order.
    fn pull(&mut self) {
        while self.pending.len() < self.lookahead {
            let Some(entry) = self.handle.next_entry() else { return };
            let held = self.slots() == 0 || entry.arrived_us < self.held_before_us;
            let deadline_us = if held { self.hold_deadline_us(&entry) } else { entry.deadline_us };
            self.place(entry, CLASS_NEW, deadline_us);
        }
    }

    fn place(&mut self, entry: Box<Entry>, class: u8, deadline_us: u64) {
        let key = match entry.mergeable() {
            Some(request) => {
                Key::Merge(request.key.clone(), ShapeClass::of_elements(request.elements_per_row()))
            }
            None => {
                self.next_alone += 1;
                Key::Alone(self.next_alone)
            }
        };
        self.pending.push(key, class, deadline_us, entry.rows, entry.arrived_us, entry);
    }

    /// Until when a request is kept that could not be served in time for want of a model server.
    fn hold_deadline_us(&self, entry: &Entry) -> u64 {
        entry.deadline_us.max(entry.arrived_us.saturating_add(self.handle.settings.now().hold_ms * 1000))
    }

    /// Cuts and sends one batch; false where no slot is free or nothing (feasible) waits.
    fn dispatch_one(&mut self) -> bool {
        let Some((slot, guard)) = self.free_slot() else { return false };
        let now_us = self.handle.clock.now_us();
        let objective_us = self.objective_us();
        let max_rows = slot.profile.max_rows;
        let (curves, sizes) = (&self.curves, &self.sizes);
        let lane = |class| {
            let lane = curves.lane(class, objective_us, sizes);
            Lane { limit_rows: lane.limit_rows.min(max_rows).max(1), ..lane }
        };
        let batch = self.pending.cut(now_us, |key| lane(key.class()));
        let class = batch.key.as_ref().and_then(Key::class);
        let Lane { limit_rows, curve } = lane(class);
        for (_, waiting) in batch.drop {
            self.handle.left(waiting.rows);
            let retry_after_ms = self.handle.retry_after_ms(now_us);
            let message = "the deadline can no longer be met: the model server is saturated";
            waiting.payload.answer(Reply::Failed(Failure::refused(
                429,
                Refusal::Expired,
                message,
                retry_after_ms,
            )));
        }
        let (mut take, cancelled): (Vec<_>, Vec<_>) =
            batch.take.into_iter().partition(|waiting| !waiting.payload.is_cancelled());
        cancelled.iter().for_each(|waiting| self.handle.left(waiting.rows));
        if let (Some(allowed), Some(key @ Key::Merge(..))) = (&self.allowed, &batch.key) {
            let keep = allowed_prefix(take.iter().map(|waiting| waiting.rows), allowed);
            for back in take.split_off(keep.min(take.len())) {
                self.pending.put_back(key.clone(), back);
            }
        }
        let mut rows = 0;
        let mut entries = Vec::with_capacity(take.len());
        for waiting in take {
            self.handle.left(waiting.rows);
            rows += waiting.rows;
            let waited_us = now_us.saturating_sub(waiting.arrived_us);
            self.handle.metrics.queue_seconds.record(waited_us as f64 / 1e6);
            entries.push(waiting.payload);
        }
        if entries.is_empty() {
            self.idle.push(slot);
            // Only cancelled ones were there: what is left may be worth another cut.
            return !self.pending.is_empty();
        }
        let release = match batch.key {
            Some(Key::Alone(_)) => Release::Alone,
            _ if rows >= limit_rows => Release::Full,
            _ => Release::SlotFree,
        };
        self.handle.metrics.count_batch(release);
        self.handle.metrics.batch_rows.record(f64::from(rows));
        self.next_batch += 1;
        let end_us = curve.map_or(now_us, |curve| now_us.saturating_add(curve.p95_us(rows)));
        self.running.push(Running { number: self.next_batch, class, end_us });
        dispatch::spawn(Arc::clone(&self.handle), self.next_batch, slot, guard, entries);
        true
    }

    fn free_slot(&mut self) -> Option<(Slot, crate::upstream::InFlight)> {
        while let Some(slot) = self.idle.pop() {
            if let Some(guard) = slot.begin() {
                return Some((slot, guard));
            }
        }
        None
    }

    /// No slot: arrivals are held, and those that were held for too long are answered.
    fn hold(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        self.latched = true;
        let now_us = self.handle.clock.now_us();
        let hold_us = self.handle.settings.now().hold_ms * 1000;
        // Deadlines within the objective, from before the last slot went, become those of held requests.
        for (_, waiting) in self.pending.drain() {
            let entry = waiting.payload;
            if entry.is_cancelled() {
                self.handle.left(entry.rows);
            } else if self.hold_deadline_us(&entry) <= now_us {
                self.handle.left(entry.rows);
                entry.answer(Reply::Failed(Failure::refused(
                    503,
                    Refusal::HoldExpired,
                    format!("no model server became ready within {} ms", hold_us / 1000),
                    1000,
                )));
            } else {
                let deadline_us = self.hold_deadline_us(&entry);
                self.place(entry, waiting.order.class, deadline_us);
            }
        }
    }

    /// While requests are held: when the first of them has been held long enough.
    fn next_expiry_us(&self) -> Option<u64> {
        if self.pending.is_empty() || self.slots() > 0 {
            return None;
        }
        let now_us = self.handle.clock.now_us();
        let oldest_us = now_us.saturating_sub(self.pending.oldest_wait_us(now_us));
        // Deadlines of their own may be later than that; then it is looked at again soon.
        let hold_us = self.handle.settings.now().hold_ms * 1000;
        Some(oldest_us.saturating_add(hold_us).max(now_us.saturating_add(10_000)))
    }

    /// Arrivals matter where they can be served at once, or where nothing is known to wait.
    fn wants_arrivals(&self) -> bool {
        !self.idle.is_empty() || self.pending.is_empty()
    }

    fn drop_void_slots(&mut self) {
        self.idle.retain(Slot::is_current);
    }

    fn slots(&self) -> usize {
        self.idle.len() + self.running.len()
    }

    fn objective_us(&self) -> u64 {
        self.handle.settings.now().objective_ms * 1000
    }

    fn forecast(&self) -> Forecast {
        let objective_us = self.objective_us();
        Forecast {
            curve: self.curves.common(),
            lanes: self.curves.lanes(objective_us, &self.sizes),
            slots: self.slots() as u32,
            free_slots: self.idle.len() as u32,
            slot_free_at_us: self.running.iter().map(|running| running.end_us).min().unwrap_or(0),
            limit_rows: self.curves.lane(None, objective_us, &self.sizes).limit_rows,
        }
    }

    fn publish(&mut self) {
        let now_us = self.handle.clock.now_us();
        self.windows.set_busy(now_us, self.running.len() as u32, self.slots() as u32);
        self.handle.publish(self.forecast());
    }

    fn set_gauges(&mut self) {
        let now_us = self.handle.clock.now_us();
        self.windows.count(&self.handle, now_us);
        let view = View {
            forecast: self.forecast(),
            oldest_wait_us: self.pending.oldest_wait_us(now_us),
            inflight: self.running.len(),
            latched: self.latched,
        };
        self.windows.set_gauges(&self.handle, &view, now_us);
        self.curves.set_gauges(&self.handle);
    }
}
