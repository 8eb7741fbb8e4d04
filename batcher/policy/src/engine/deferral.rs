//! Waiting for more rows although a slot is free: where that is asked for, and the curve predicts that it pays.

use super::Engine;
use super::outside::{Request, Slot};
use super::room::Room;
use crate::{
    ArrivalRate, DeferView, ServiceCurve, batch_limit, defer_until, deferral_pays, spread_objective_us,
};

/// Window of the arrival rate.
const RATE_WINDOW_US: u64 = 1_000_000;

/// What is remembered for deferral.
#[derive(Debug)]
pub(super) struct Deferral {
    rate: ArrivalRate,
    /// Since when the first of the requests that wait has waited.
    since_us: u64,
    /// Until when the requests that wait are to wait for more; no slot is requested until then.
    until_us: Option<u64>,
    /// Whether requests have waited for more since the last batch.
    has_waited: bool,
}

impl Deferral {
    pub(super) fn new(now_us: u64) -> Self {
        let rate = ArrivalRate::new(RATE_WINDOW_US, now_us);
        Self { rate, since_us: now_us, until_us: None, has_waited: false }
    }

    /// Notes that the first of the requests that wait has begun to wait.
    pub(super) fn begins(&mut self, since_us: u64) {
        self.since_us = since_us;
    }

    /// Counts an arrival.
    pub(super) fn arrived(&mut self, at_us: u64, rows: u32) {
        self.rate.arrived(at_us, rows);
    }

    /// Notes that a batch is cut; returns whether it had waited for more rows.
    pub(super) fn cut(&mut self, now_us: u64) -> bool {
        self.since_us = now_us;
        std::mem::take(&mut self.has_waited)
    }

    /// Returns when to look again, where requests are to wait for more.
    pub(super) fn until_us(&self) -> Option<u64> {
        self.until_us
    }
}

impl<R: Request, S: Slot> Engine<R, S> {
    /// Returns whether the requests that wait are to wait for more now.
    pub(super) fn defers(&mut self, now_us: u64) -> bool {
        let until_us = self.deferred_until_us(now_us);
        self.deferral.until_us = until_us;
        self.deferral.has_waited |= until_us.is_some();
        until_us.is_some()
    }

    fn deferred_until_us(&mut self, now_us: u64) -> Option<u64> {
        let deadline_us = self.pending.queue.earliest_deadline_us()?;
        let (curve, room) = self.spread()?;
        let slots = slots_of(&room);
        let objective_us = spread_objective_us(self.settings.objective_us, slots);
        let limit_rows =
            batch_limit(Some(&curve), objective_us, &self.settings.sizes).min(self.servers.most_rows());
        let view = DeferView {
            now_us,
            since_us: self.deferral.since_us,
            deadline_us,
            rows: self.pending.queue.rows(),
            rows_per_second: self.deferral.rate.rows_per_second(now_us),
            slots,
            limit_rows,
        };
        defer_until(&view, &curve)
    }

    /// Returns the objective that B\* follows from: batches that leave evenly spread may be larger.
    pub(super) fn batch_objective_us(&self) -> u64 {
        match self.spread() {
            None => self.settings.objective_us,
            Some((_, room)) => spread_objective_us(self.settings.objective_us, slots_of(&room)),
        }
    }

    /// Returns how many rows arrive per second; 0 where they are not counted.
    pub(super) fn rows_per_second(&mut self, now_us: u64) -> f64 {
        if self.settings.defers { self.deferral.rate.rows_per_second(now_us) } else { 0.0 }
    }

    /// Returns the curve of the requests that wait, where their batches are to leave evenly spread over the slots.
    fn spread(&self) -> Option<(ServiceCurve, Room)> {
        if !self.settings.defers {
            return None;
        }
        let curve = match self.pending.queue.only_key() {
            // A request that goes alone has no shape, and no company.
            Some(key) => self.curves.of(Some(key.shape()?)),
            None if self.pending.queue.is_empty() => self.curves.common(),
            // Requests of several keys are several batches: one of them may as well go.
            None => None,
        }?;
        let room = self.servers.room();
        let (objective_us, sizes) = (self.settings.objective_us, &self.settings.sizes);
        let pays = deferral_pays(&curve, objective_us, sizes, slots_of(&room))
            && batch_limit(Some(&curve), objective_us, sizes) < self.servers.most_rows();
        pays.then_some((curve, room))
    }
}

/// Returns how many slots the queue gets.
fn slots_of(room: &Room) -> f64 {
    f64::from(room.slots) * room.share
}
