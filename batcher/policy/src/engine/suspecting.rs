//! Requests of calls that failed or take far too long: they go again apart from all others, and the sender of one that
//! failed alone shares no batch with others for a while.

use super::outside::{Request, Slot};
use super::{Effect, Engine, Waiting};
use crate::Fault;

impl<R: Request, S: Slot> Engine<R, S> {
    /// Takes in the requests of a call, one of which may be to blame for its end.
    pub(super) fn suspect(&mut self, fault: Fault, group: Vec<R>) {
        let by_itself = is_grave(&group);
        self.suspects.accuse(group, fault, by_itself);
    }

    /// Takes suspects back that were not sent.
    pub(super) fn put_back(&mut self, group: Vec<R>) {
        let by_itself = is_grave(&group);
        self.suspects.put_back(group, by_itself);
    }

    /// Notes that a batch takes far longer than predicted: suspects need no longer wait for it.
    pub(super) fn overdue(&mut self, number: u64, copies: Vec<R>) {
        self.suspects.ended(number, false);
        self.suspect(Fault::Broke, copies);
    }

    /// Sets a sender apart whose request failed alone, unless nothing else has been served since it was suspected: then
    /// it may be the model server that fails.
    pub(super) fn convict(&mut self, now_us: u64, sender: R::Sender, since_us: u64) {
        if self.served_us < since_us {
            return;
        }
        self.effects.push(Effect::SetApart(sender));
        for Waiting { order, payload, .. } in self.pending.set_apart(now_us, sender) {
            self.place(now_us, payload, order.class, order.deadline_us);
        }
    }
}

/// Returns whether all of them have been taken along, or have broken their calls, so often that they go by themselves.
fn is_grave<R: Request>(group: &[R]) -> bool {
    group.iter().all(|request| request.breaks().are_grave())
}
