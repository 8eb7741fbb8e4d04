//! A slot is free: what goes next.

use super::event::{Effect, Release, SentBatch};
use super::outside::{Request, Slot};
use super::pending::Key;
use super::servers::{Predicted, SlotDemand, Taken};
use super::{Engine, Unserved};
use crate::{Lane, NextBatch, ServiceCurve, ShapeClass, overdue_after_us};

/// A batch that is to be sent.
struct Cut<R> {
    requests: Vec<R>,
    shape: Option<ShapeClass>,
    rows: u32,
    /// Rows on the wire.
    sent_rows: u32,
    release: Release,
}

impl<R: Request, S: Slot> Engine<R, S> {
    /// Cuts and sends one batch; false where no slot is free or nothing (feasible) waits.
    pub(super) fn dispatch_one(&mut self, now_us: u64) -> bool {
        let demand = self.demand(now_us);
        let Some(taken) = self.servers.take(&self.pending.bound, demand) else { return false };
        let max_rows = taken.slot.max_rows();
        let home = taken.slot.server();
        let objective_us = self.batch_objective_us();
        let (curves, settings) = (&self.curves, &self.settings);
        let lane = |shape| {
            let lane = curves.lane(shape, objective_us, &settings.sizes);
            Lane { limit_rows: lane.limit_rows.min(max_rows).max(1), ..lane }
        };
        let batch = self.pending.queue.cut_where(
            now_us,
            |key| lane(key.shape()),
            &settings.batch(),
            R::is_cancelled,
            |key| key.may_go(home),
        );
        let has_waited = self.deferral.cut(now_us);
        let shape = batch.key.as_ref().and_then(Key::shape);
        let Lane { limit_rows, curve } = lane(shape);
        let has_removed = !(batch.gone.is_empty() && batch.drop.is_empty());
        for waiting in batch.gone {
            self.pending.left(&waiting.payload);
            self.effects.push(Effect::Gone(waiting.payload));
        }
        for (_, waiting) in batch.drop {
            self.fail(waiting.payload, Unserved::TooLate);
        }
        if batch.take.is_empty() {
            self.servers.untake(taken);
            // There may be more for another server.
            return has_removed;
        }
        let mut requests = Vec::with_capacity(batch.take.len());
        for waiting in batch.take {
            let request = waiting.payload;
            self.pending.left(&request);
            if let Some((sequence, _)) = request.step() {
                self.sequences.sent(&sequence, home);
            }
            requests.push(request);
        }
        let rows = batch.size.rows;
        let release = match batch.key {
            Some(Key::Alone(_) | Key::Bound(..)) => Release::Alone,
            _ if rows >= limit_rows => Release::Full,
            _ if has_waited => Release::Deferred,
            _ => Release::SlotFree,
        };
        let cut = Cut { requests, shape, rows, sent_rows: batch.sent_rows, release };
        self.send(now_us, taken, cut, curve.as_ref());
        true
    }

    /// Sends one group of suspects; false where none may go, or no slot is free.
    pub(super) fn dispatch_suspects(&mut self, now_us: u64) -> bool {
        let gone = self.suspects.take_out(R::is_cancelled);
        self.effects.extend(gone.into_iter().map(Effect::Gone));
        if !self.suspects.may_go() {
            return false;
        }
        let demand = self.demand(now_us);
        let Some(taken) = self.servers.take(&self.pending.bound, demand) else { return false };
        let most_rows = u64::from(taken.slot.max_rows().max(1));
        let number = self.servers.next_number();
        let Some(requests) = self.suspects.send(number, |group| rows(group) <= most_rows) else {
            self.servers.untake(taken);
            return false;
        };
        let shape = requests.first().and_then(R::shape);
        let curve = self.curves.of(shape);
        let rows = u32::try_from(rows(&requests)).unwrap_or(u32::MAX);
        let sent_rows = self.settings.sizes.sent_rows(rows);
        let cut = Cut { requests, shape, rows, sent_rows, release: Release::Suspect };
        self.send(now_us, taken, cut, curve.as_ref());
        true
    }

    /// Sends a batch to the server at which a slot was taken for it.
    fn send(&mut self, now_us: u64, taken: Taken<S>, cut: Cut<R>, curve: Option<&ServiceCurve>) {
        let Cut { requests, shape, rows, sent_rows, release } = cut;
        let end_us = curve.map_or(now_us, |curve| now_us.saturating_add(curve.p95_us(sent_rows)));
        let predicted = Predicted { class: shape, started_us: now_us, end_us };
        let (number, slot, inflight) = self.servers.send(taken, predicted);
        let overdue_after_us = self.overdue_after_us(&requests, release, curve, sent_rows);
        let batch = SentBatch { number, slot, inflight, requests, rows, release, overdue_after_us };
        self.effects.push(Effect::Send(batch));
    }

    /// Returns after how long the requests of a batch are tried elsewhere too; `None`: never. Only requests that may be
    /// merged may run twice, and only where a second slot can be had.
    fn overdue_after_us(
        &self,
        requests: &[R],
        release: Release,
        curve: Option<&ServiceCurve>,
        sent_rows: u32,
    ) -> Option<u64> {
        let is_mergeable = requests.first().is_some_and(|request| request.shape().is_some());
        let is_worth_it = requests.len() > 1 || release == Release::Suspect;
        if !is_mergeable || !is_worth_it || self.servers.slots() < 2 {
            return None;
        }
        overdue_after_us(curve, sent_rows)
    }

    /// Returns the batch that would be sent now, as far as it is known before it is cut.
    pub(super) fn demand(&self, now_us: u64) -> SlotDemand {
        let lane = self.curves.lane(None, self.batch_objective_us(), &self.settings.sizes);
        let lane = Lane { limit_rows: lane.limit_rows.min(self.servers.most_rows()).max(1), ..lane };
        let suspected = self.suspects.iter().map(|request| u64::from(request.size().rows)).sum::<u64>();
        let rows = self.pending.queue.rows().saturating_add(suspected);
        let next = NextBatch::of_queue(rows, self.earliest_deadline_us(), &lane);
        SlotDemand { now_us, next, waiting: self.waiting() }
    }

    /// Returns how many requests could be sent now if there were slots for all of them.
    pub(super) fn waiting(&self) -> usize {
        let suspects = if self.suspects.may_go() { self.suspects.iter().count() } else { 0 };
        self.pending.queue.len() + suspects
    }
}

fn rows<R: Request>(group: &[R]) -> u64 {
    group.iter().map(|request| u64::from(request.size().rows)).sum()
}
