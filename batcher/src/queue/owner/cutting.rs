//! A slot is free: what goes next.

use std::sync::Arc;

use sluice_batch_policy::Lane;

use super::{Key, Owner, Running};
use crate::metrics::Release;
use crate::queue::{Slot, dispatch};
use crate::upstream::InFlight;

impl Owner {
    /// Cuts and sends one batch; false where no slot is free or nothing (feasible) waits.
    pub(super) fn dispatch_one(&mut self) -> bool {
        let Some((slot, guard)) = self.free_slot() else { return false };
        let now_us = self.handle.clock.now_us();
        let max_rows = slot.profile.max_rows;
        let (curves, limits) = (&self.curves, &self.limits);
        let lane = |shape| {
            let lane = curves.lane(shape, limits.objective_us, &limits.sizes);
            Lane { limit_rows: lane.limit_rows.min(max_rows).max(1), ..lane }
        };
        let batch = self.pending.cut(
            now_us,
            |key: &Key| lane(key.shape()),
            &limits.batch(),
            |entry| entry.is_cancelled(),
        );
        let shape = batch.key.as_ref().and_then(Key::shape);
        let Lane { limit_rows, curve } = lane(shape);
        batch.gone.iter().for_each(|waiting| self.handle.left(&waiting.payload));
        for (_, waiting) in batch.drop {
            self.too_late(*waiting.payload, now_us);
        }
        if batch.take.is_empty() {
            self.idle.push(slot);
            return false;
        }
        self.handle.served(batch.take.iter().map(|waiting| &*waiting.payload));
        let mut entries = Vec::with_capacity(batch.take.len());
        for waiting in batch.take {
            self.handle.left(&waiting.payload);
            let waited_us = now_us.saturating_sub(waiting.arrived_us);
            self.handle.metrics.queue_seconds.record(waited_us as f64 / 1e6);
            entries.push(waiting.payload);
        }
        let rows = batch.size.rows;
        let release = match batch.key {
            Some(Key::Alone(_)) => Release::Alone,
            _ if rows >= limit_rows => Release::Full,
            _ => Release::SlotFree,
        };
        self.handle.metrics.count_batch(release);
        self.handle.metrics.batch_rows.record(f64::from(rows));
        self.next_batch += 1;
        let end_us = curve.map_or(now_us, |curve| now_us.saturating_add(curve.p95_us(batch.sent_rows)));
        self.running.push(Running { number: self.next_batch, class: shape, end_us });
        dispatch::spawn(Arc::clone(&self.handle), self.next_batch, slot, guard, entries);
        true
    }

    fn free_slot(&mut self) -> Option<(Slot, InFlight)> {
        while let Some(slot) = self.idle.pop() {
            if let Some(guard) = slot.begin() {
                return Some((slot, guard));
            }
        }
        None
    }
}
