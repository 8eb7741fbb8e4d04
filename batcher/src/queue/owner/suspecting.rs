//! Requests of calls that failed or take far too long: they go again apart from all others, and whoever sent one that
//! failed alone shares no batch with others for a while.

// As they come from the dispatch.
#![allow(clippy::vec_box)]

use std::time::Duration;

use sluice_batch_policy::{Fault, ServiceCurve, ShapeClass, overdue_after_us};

use super::Owner;
use super::cutting::Cut;
use crate::metrics::Release;
use crate::queue::Entry;
use crate::queue::caller::Caller;

impl Owner {
    /// Takes in the requests of a call, one of which may be to blame for its end.
    pub(super) fn suspect(&mut self, fault: Fault, mut group: Vec<Box<Entry>>) {
        group.iter_mut().for_each(|entry| self.handle.came_back(entry));
        let by_itself = is_grave(&group);
        self.suspects.accuse(group, fault, by_itself);
    }

    /// Takes suspects back that were not sent.
    pub(super) fn put_back(&mut self, mut group: Vec<Box<Entry>>) {
        group.iter_mut().for_each(|entry| self.handle.came_back(entry));
        let by_itself = is_grave(&group);
        self.suspects.put_back(group, by_itself);
    }

    /// A batch takes far longer than predicted: whatever is suspected beside it need no longer wait for it.
    pub(super) fn overdue(&mut self, number: u64, copies: Vec<Box<Entry>>) {
        self.suspects.ended(number, false);
        self.suspect(Fault::Broke, copies);
    }

    /// Sends one group of suspects; false where none may go, or no slot is free.
    pub(super) fn dispatch_suspects(&mut self) -> bool {
        for gone in self.suspects.take_out(|suspect| suspect.is_cancelled()) {
            self.handle.left(&gone);
        }
        if !self.suspects.may_go() {
            return false;
        }
        let Some(taken) = self.places.take(self.wish()) else { return false };
        let most_rows = u64::from(taken.slot.profile.max_rows.max(1));
        let number = self.places.next_number();
        let Some(entries) = self.suspects.send(number, |group| rows(group) <= most_rows) else {
            self.places.untake(taken);
            return false;
        };
        let shape = entries.first().and_then(|entry| entry.mergeable());
        let shape = shape.map(|request| ShapeClass::of_elements(request.elements_per_row()));
        let curve = self.curves.of(shape);
        self.handle.served(entries.iter().map(|entry| &**entry));
        entries.iter().for_each(|entry| self.handle.left(entry));
        let rows = u32::try_from(rows(&entries)).unwrap_or(u32::MAX);
        let sent_rows = self.limits.sizes.sent_rows(rows);
        let cut = Cut { entries, shape, rows, sent_rows, release: Release::Suspect };
        self.send(taken, cut, curve.as_ref());
        true
    }

    /// After how long the requests of a batch are tried elsewhere too; `None`: never. Only what may be merged may run
    /// twice, and only where a second slot can be had.
    pub(super) fn overdue_after(
        &self,
        entries: &[Box<Entry>],
        release: Release,
        curve: Option<&ServiceCurve>,
        sent_rows: u32,
    ) -> Option<Duration> {
        let is_mergeable = entries.first().is_some_and(|entry| entry.mergeable().is_some());
        let is_worth_it = entries.len() > 1 || release == Release::Suspect;
        if !is_mergeable || !is_worth_it || self.slots() < 2 {
            return None;
        }
        overdue_after_us(curve, sent_rows).map(Duration::from_micros)
    }

    /// A request failed alone. Its sender's go apart from now on, those too that wait; not where nothing else has been
    /// served since it was suspected: then it may be the model server that fails.
    pub(super) fn convict(&mut self, caller: Caller, since_us: u64, now_us: u64) {
        if self.served_us < since_us {
            return;
        }
        tracing::warn!(model = %self.handle.model, ?caller, "A request fails its calls even alone; its sender's requests share no batch with others' for a while.");
        self.offenders.convict(caller, now_us);
        let is_theirs = |entry: &Entry| entry.caller == Some(caller) && entry.mergeable().is_some();
        for waiting in self.pending.take_out(|waiting| is_theirs(&waiting.payload)) {
            self.place(waiting.payload, waiting.order.class, waiting.order.deadline_us);
        }
    }

    /// Whose batches a request goes in, where it must not share those of others.
    pub(super) fn apart(&self, entry: &Entry) -> Option<Caller> {
        if self.offenders.is_empty() {
            return None;
        }
        let now_us = self.handle.clock.now_us();
        entry.caller.filter(|caller| self.offenders.is_apart(caller, now_us))
    }
}

/// Whether all of them have been taken along, or have broken their calls, so often that they go by themselves.
fn is_grave(group: &[Box<Entry>]) -> bool {
    group.iter().all(|entry| entry.suspicion.breaks.are_grave())
}

fn rows(group: &[Box<Entry>]) -> u64 {
    group.iter().map(|entry| u64::from(entry.size.rows)).sum()
}
