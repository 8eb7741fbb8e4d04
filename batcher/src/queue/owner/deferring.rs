//! What waits may wait for more, although a slot is free: where that is asked for, and the curve says that it pays.

use sluice_batch_policy::{
    ArrivalRate, DeferView, ServiceCurve, batch_limit, defer_until, deferral_pays, spread_objective_us,
};

use super::Owner;
use crate::queue::places::Room;

/// Window of the arrival rate.
const RATE_WINDOW_US: u64 = 1_000_000;

/// What the owner remembers for it.
pub(super) struct Deferring {
    rate: ArrivalRate,
    /// Since when the first of what waits has waited.
    since_us: u64,
    /// Until when what waits is to wait for more; then nothing is claimed.
    until_us: Option<u64>,
    /// Something has waited for more since the last batch.
    has_waited: bool,
}

impl Deferring {
    pub(super) fn new(now_us: u64) -> Self {
        let rate = ArrivalRate::new(RATE_WINDOW_US, now_us);
        Self { rate, since_us: now_us, until_us: None, has_waited: false }
    }

    /// The first one has begun to wait.
    pub(super) fn begins(&mut self, since_us: u64) {
        self.since_us = since_us;
    }

    /// A request has come.
    pub(super) fn arrived(&mut self, at_us: u64, rows: u32) {
        self.rate.arrived(at_us, rows);
    }

    /// A batch is cut; whether it had waited for more.
    pub(super) fn cut(&mut self, now_us: u64) -> bool {
        self.since_us = now_us;
        std::mem::take(&mut self.has_waited)
    }

    /// When to look again, where what waits is to wait for more.
    pub(super) fn until_us(&self) -> Option<u64> {
        self.until_us
    }
}

impl Owner {
    /// Whether what waits is to wait for more now.
    pub(super) fn defers(&mut self) -> bool {
        let until_us = self.deferred_until_us();
        self.deferring.until_us = until_us;
        self.deferring.has_waited |= until_us.is_some();
        until_us.is_some()
    }

    fn deferred_until_us(&mut self) -> Option<u64> {
        let deadline_us = self.pending.earliest_deadline_us()?;
        let (curve, room) = self.spread()?;
        let now_us = self.handle.clock.now_us();
        let slots = slots_of(&room);
        let objective_us = spread_objective_us(self.limits.objective_us, slots);
        let limit_rows =
            batch_limit(Some(&curve), objective_us, &self.limits.sizes).min(self.places.most_rows());
        let view = DeferView {
            now_us,
            since_us: self.deferring.since_us,
            deadline_us,
            rows: self.pending.rows(),
            rows_per_second: self.deferring.rate.rows_per_second(now_us),
            slots,
            limit_rows,
        };
        defer_until(&view, &curve)
    }

    /// The objective that B* follows from: batches that leave evenly spread may be larger.
    pub(super) fn batch_objective_us(&self) -> u64 {
        match self.spread() {
            None => self.limits.objective_us,
            Some((_, room)) => spread_objective_us(self.limits.objective_us, slots_of(&room)),
        }
    }

    /// Rows that arrive per second, where they are counted.
    pub(super) fn rows_per_second(&mut self) -> f64 {
        if !self.limits.defers {
            return 0.0;
        }
        let now_us = self.handle.clock.now_us();
        self.deferring.rate.rows_per_second(now_us)
    }

    /// The curve of what waits, where its batches are to leave evenly spread over the slots.
    fn spread(&self) -> Option<(ServiceCurve, Room)> {
        if !self.limits.defers {
            return None;
        }
        let curve = match self.pending.only_key() {
            // What goes alone has no shape, and no company.
            Some(key) => self.curves.of(Some(key.shape()?)),
            None if self.pending.is_empty() => self.curves.common(),
            // Requests of several keys are several batches: one of them may as well go.
            None => None,
        }?;
        let room = self.places.room();
        let (objective_us, sizes) = (self.limits.objective_us, &self.limits.sizes);
        let pays = deferral_pays(&curve, objective_us, sizes, slots_of(&room))
            && batch_limit(Some(&curve), objective_us, sizes) < self.places.most_rows();
        pays.then_some((curve, room))
    }
}

/// Slots that the queue gets.
fn slots_of(room: &Room) -> f64 {
    f64::from(room.slots) * room.share
}
