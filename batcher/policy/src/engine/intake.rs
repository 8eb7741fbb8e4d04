//! Requests on their way in: until when, and in which class.

use super::outside::{Request, Slot};
use super::{Engine, Waiting};

/// Class of requests that were in flight when a connection broke: they are served before all others, whose classes
/// are from 1 on.
const CLASS_AGAIN: u8 = 0;

impl<R: Request, S: Slot> Engine<R, S> {
    /// Takes in requests that were in flight, to be run again.
    pub(super) fn again(&mut self, now_us: u64, requests: Vec<R>) {
        for request in requests {
            let Some(request) = self.step_again(request) else { continue };
            let deadline_us = request.held_until_us(self.settings.hold_us);
            self.place(now_us, request, CLASS_AGAIN, deadline_us);
        }
    }

    /// Takes arrivals in, in order.
    pub(super) fn pull(&mut self, now_us: u64, arrivals: &mut impl Iterator<Item = R>) {
        for request in arrivals {
            if self.settings.defers {
                self.deferral.arrived(request.arrived_us(), request.size().rows);
            }
            self.arrive(now_us, request);
        }
    }

    /// Takes in a request that may be sent from now on, by its own deadline.
    pub(super) fn enter(&mut self, now_us: u64, request: R) {
        let deadline_us = self.deadlines().of(&request);
        let class = request.flow().class;
        self.place(now_us, request, class, deadline_us);
    }

    pub(super) fn place(&mut self, now_us: u64, request: R, class: u8, deadline_us: u64) {
        if self.pending.queue.is_empty() {
            self.deferral.begins(request.arrived_us());
        }
        self.pending.place(now_us, request, class, deadline_us);
    }

    /// Notes that the last slot has gone: deadlines within the objective become those of held requests.
    pub(super) fn hold_all(&mut self, now_us: u64) {
        for Waiting { order, payload, .. } in self.pending.drain() {
            let deadline_us = payload.held_until_us(self.settings.hold_us);
            self.place(now_us, payload, order.class, deadline_us);
        }
    }
}
