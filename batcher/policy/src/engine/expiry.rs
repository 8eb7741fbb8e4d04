//! Requests that have waited for too long. While no model server is ready, requests are held until the hold time is over
//! and then fail for want of a server. While servers are ready but busy, each request fails at its own deadline.

use super::outside::{Request, Slot};
use super::{Effect, Engine, Unserved};

/// Longest time after which clients that have gone are noticed while nothing is dispatched, microseconds: the memory
/// that their requests hold is wanted.
const SWEEP_US: u64 = 500_000;

/// Deadlines of requests that wait, as things stand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    /// Requests that arrived before this instant were held for want of a slot; they may be late by the hold time.
    pub(super) held_before_us: u64,
    pub(super) hold_us: u64,
}

impl Deadlines {
    pub(super) fn of(&self, request: &impl Request) -> u64 {
        match request.arrived_us() < self.held_before_us {
            true => request.held_until_us(self.hold_us),
            false => request.deadline_us(),
        }
    }
}

impl<R: Request, S: Slot> Engine<R, S> {
    /// Returns when to look at the expiry of requests again: the first is due at `due_us`, or clients may have gone.
    pub(super) fn next_expiry_us(&self, due_us: u64) -> u64 {
        due_us.min(self.swept_us.saturating_add(SWEEP_US))
    }

    /// Fails requests that are due, and lets go those whose clients have gone.
    pub(super) fn expire(&mut self, now_us: u64) {
        let is_due = self.earliest_deadline_us().is_some_and(|due_us| due_us <= now_us);
        if !is_due && now_us < self.swept_us.saturating_add(SWEEP_US) {
            return;
        }
        self.swept_us = now_us;
        for waiting in self.pending.queue.take_out(|waiting| waiting.payload.is_cancelled()) {
            self.pending.left(&waiting.payload);
            self.effects.push(Effect::Gone(waiting.payload));
        }
        let gone = self.suspects.take_out(R::is_cancelled);
        self.effects.extend(gone.into_iter().map(Effect::Gone));
        for waiting in self.pending.queue.overdue(now_us) {
            self.expired(waiting.payload);
        }
        let hold_us = self.settings.hold_us;
        for suspect in self.suspects.take_out(|suspect| suspect.held_until_us(hold_us) <= now_us) {
            self.expired(suspect);
        }
        self.expire_steps(now_us);
    }

    /// Returns when the first of all requests that wait is due.
    pub(super) fn earliest_deadline_us(&self) -> Option<u64> {
        let suspects = self.suspects.iter().map(|suspect| suspect.held_until_us(self.settings.hold_us));
        let steps = self.earliest_step_deadline_us();
        suspects.chain(steps).chain(self.pending.queue.earliest_deadline_us()).min()
    }

    /// Fails a request that is due, and may have been for long.
    pub(super) fn expired(&mut self, request: R) {
        let reason = match self.servers.slots() {
            0 => Unserved::NoServer { unsure: self.servers.unsure() },
            _ => Unserved::TooLate,
        };
        self.fail(request, reason);
    }

    /// Has a request answered with an error.
    pub(super) fn fail(&mut self, request: R, reason: Unserved) {
        self.pending.left(&request);
        self.effects.push(Effect::Fail { request, reason });
    }

    /// Returns the deadlines as things stand: without a slot all requests that arrive are held.
    pub(super) fn deadlines(&self) -> Deadlines {
        let held_before_us = if self.servers.slots() == 0 { u64::MAX } else { self.held_before_us };
        Deadlines { held_before_us, hold_us: self.settings.hold_us }
    }
}
