//! A slot is free: what goes next.

use std::sync::Arc;

use sluice_batch_policy::{Lane, NextBatch, ServiceCurve, ShapeClass};

use super::{Key, Owner};
use crate::metrics::Release;
use crate::observe::trail::{self, Batch};
use crate::queue::places::{Sent, Taken, Wish};
use crate::queue::sequence::Home;
use crate::queue::{Entry, dispatch};

/// A batch that is to be sent.
pub(super) struct Cut {
    #[allow(clippy::vec_box)] // As they come from the queue.
    pub(super) entries: Vec<Box<Entry>>,
    pub(super) shape: Option<ShapeClass>,
    pub(super) rows: u32,
    /// Rows on the wire.
    pub(super) sent_rows: u32,
    pub(super) release: Release,
}

impl Owner {
    /// Cuts and sends one batch; false where no slot is free or nothing (feasible) waits.
    pub(super) fn dispatch_one(&mut self) -> bool {
        let Some(taken) = self.places.take(self.wish()) else { return false };
        let now_us = self.handle.clock.now_us();
        let max_rows = taken.slot.profile.max_rows;
        let home = Home::of(&taken.slot);
        let objective_us = self.batch_objective_us();
        let (curves, limits) = (&self.curves, &self.limits);
        let lane = |shape| {
            let lane = curves.lane(shape, objective_us, &limits.sizes);
            Lane { limit_rows: lane.limit_rows.min(max_rows).max(1), ..lane }
        };
        let batch = self.pending.cut_where(
            now_us,
            |key: &Key| lane(key.shape()),
            &limits.batch(),
            |entry| entry.is_cancelled(),
            |key| key.may_go(home),
        );
        let has_waited = self.deferring.cut(now_us);
        let shape = batch.key.as_ref().and_then(Key::shape);
        let Lane { limit_rows, curve } = lane(shape);
        let has_removed = !(batch.gone.is_empty() && batch.drop.is_empty());
        batch.gone.iter().for_each(|waiting| self.left(&waiting.payload));
        for (_, waiting) in batch.drop {
            self.too_late(*waiting.payload, now_us);
        }
        if batch.take.is_empty() {
            self.places.untake(taken);
            // There may be more for another place.
            return has_removed;
        }
        self.handle.served(batch.take.iter().map(|waiting| &*waiting.payload));
        let mut entries = Vec::with_capacity(batch.take.len());
        for waiting in batch.take {
            self.left(&waiting.payload);
            if let Some(sequence) = &waiting.payload.sequence {
                self.sequences.sent(&sequence.key, home);
            }
            let waited_us = now_us.saturating_sub(waiting.arrived_us);
            self.handle.metrics.queue_seconds.record(waited_us as f64 / 1e6);
            entries.push(waiting.payload);
        }
        let rows = batch.size.rows;
        let release = match batch.key {
            Some(Key::Alone(_) | Key::Bound(..)) => Release::Alone,
            _ if rows >= limit_rows => Release::Full,
            _ if has_waited => Release::Deferred,
            _ => Release::SlotFree,
        };
        let batch = Cut { entries, shape, rows, sent_rows: batch.sent_rows, release };
        self.send(taken, batch, curve.as_ref());
        true
    }

    /// Sends a batch to where it was taken a slot for.
    pub(super) fn send(&mut self, taken: Taken, batch: Cut, curve: Option<&ServiceCurve>) {
        let Cut { entries, shape, rows, sent_rows, release } = batch;
        let now_us = self.handle.clock.now_us();
        self.handle.metrics.count_batch(release);
        self.handle.metrics.batch_rows.record(f64::from(rows));
        let end_us = curve.map_or(now_us, |curve| now_us.saturating_add(curve.p95_us(sent_rows)));
        let sent = Sent { class: shape, started_us: now_us, end_us };
        let (number, slot, inflight) = self.places.send(taken, sent);
        let requests = entries.len();
        let noted = Batch { number, rows, requests, release: release.label(), cut_us: now_us };
        trail::cut(entries.iter().filter_map(|entry| entry.trail.as_ref()), &noted);
        let overdue_after = self.overdue_after(&entries, release, curve, sent_rows);
        dispatch::spawn(Arc::clone(&self.handle), number, slot, inflight, entries, overdue_after);
    }

    /// The batch that would be sent now, as far as it is known before it is cut.
    pub(super) fn wish(&self) -> Wish {
        let lane = self.curves.lane(None, self.batch_objective_us(), &self.limits.sizes);
        let lane = Lane { limit_rows: lane.limit_rows.min(self.places.most_rows()).max(1), ..lane };
        let suspected = self.suspects.iter().map(|entry| u64::from(entry.size.rows)).sum::<u64>();
        let rows = self.pending.rows().saturating_add(suspected);
        let earliest_deadline_us = self.earliest_deadline_us();
        let next = NextBatch::of_queue(rows, earliest_deadline_us, &lane);
        Wish { now_us: self.handle.clock.now_us(), next, waiting: self.waiting() }
    }

    /// Requests that could be sent now if there were slots for all of them.
    pub(super) fn waiting(&self) -> usize {
        let suspects = if self.suspects.may_go() { self.suspects.iter().count() } else { 0 };
        self.pending.len() + suspects
    }
}
