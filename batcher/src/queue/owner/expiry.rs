//! Requests that have waited for too long, in either of two regimes: without a model server they are held, long, and
//! then told that there is none (503); with one that is busy their own deadlines hold, and they are told when to try
//! again (429).

use super::Owner;
use crate::failure::{Failure, missing_elsewhere};
use crate::metrics::Refusal;
use crate::queue::Entry;

/// Clients that have gone while nothing is dispatched are noticed after so long: what they hold is wanted.
const SWEEP_US: u64 = 500_000;

impl Owner {
    /// When to look again: a request is due, or clients may have gone. Nothing waits, no timer.
    pub(super) fn next_expiry_us(&mut self) -> Option<u64> {
        let earliest_us = self.earliest_deadline_us();
        let next_us = earliest_us.map(|due_us| due_us.min(self.swept_us.saturating_add(SWEEP_US)));
        // While requests are held, arrivals are due later than those that wait; so they need not wake anybody.
        let is_held = self.slots() == 0;
        self.handle.set_expiry_us(if is_held { 0 } else { earliest_us.unwrap_or(0) });
        next_us
    }

    /// Answers what is due, and lets go what nobody waits for any more.
    pub(super) fn expire(&mut self) {
        let now_us = self.handle.clock.now_us();
        let is_due = self.earliest_deadline_us().is_some_and(|due_us| due_us <= now_us);
        if !is_due && now_us < self.swept_us.saturating_add(SWEEP_US) {
            return;
        }
        self.swept_us = now_us;
        for waiting in self.pending.take_out(|waiting| waiting.payload.is_cancelled()) {
            self.left(&waiting.payload);
        }
        for suspect in self.suspects.take_out(|suspect| suspect.is_cancelled()) {
            self.handle.left(&suspect);
        }
        let mut due: Vec<Box<Entry>> =
            self.pending.overdue(now_us).into_iter().map(|waiting| waiting.payload).collect();
        let hold_us = self.limits.hold_us;
        due.extend(self.suspects.take_out(|suspect| suspect.held_until_us(hold_us) <= now_us));
        for entry in due {
            self.expired(*entry, now_us);
        }
        self.expire_steps(now_us);
    }

    /// When the first of all that wait is due.
    pub(super) fn earliest_deadline_us(&self) -> Option<u64> {
        let suspects = self.suspects.iter().map(|suspect| suspect.held_until_us(self.limits.hold_us));
        let steps = self.earliest_step_deadline_us();
        suspects.chain(steps).chain(self.pending.earliest_deadline_us()).min()
    }

    /// Answers a request that is due, and may have been for long.
    pub(super) fn expired(&mut self, entry: Entry, now_us: u64) {
        match self.slots() {
            0 => self.hold_expired(entry),
            _ => self.too_late(entry, now_us),
        }
    }

    fn hold_expired(&mut self, entry: Entry) {
        let hold_ms = self.limits.hold_us / 1000;
        let message = match self.places.unsure() {
            0 => format!("no model server became ready within {hold_ms} ms"),
            others => missing_elsewhere(others, hold_ms),
        };
        self.left(&entry);
        entry.give_up(Failure::refused(503, Refusal::HoldExpired, message, 1000));
    }

    /// Its deadline can no longer be met.
    pub(super) fn too_late(&mut self, entry: Entry, now_us: u64) {
        self.left(&entry);
        let retry_after_ms = self.handle.retry_after_ms(now_us);
        let message = "the deadline can no longer be met: the model server is saturated";
        entry.give_up(Failure::refused(429, Refusal::Expired, message, retry_after_ms));
    }
}
