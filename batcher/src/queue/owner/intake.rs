//! Requests on their way in: what may share a batch, in which class, until when.

use sluice_batch_policy::{ShapeClass, Ticket};
use sluice_protocol::MergeKey;

use super::Owner;
use crate::queue::Entry;
use crate::queue::caller::Caller;
use crate::queue::scope::Scope;

/// Class of requests that were in flight when a connection broke: they are served before all others, whose classes
/// are from 1 on.
const CLASS_AGAIN: u8 = 0;

/// What may share a batch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// The shape class follows from the key. Requests of an offender share batches with its own alone.
    Merge(MergeKey, ShapeClass, Option<Scope>, Option<Caller>),
    Alone(u64),
}

impl Key {
    /// Whose curve its batches follow. What goes alone counts as one row, whatever it holds: no curve of a shape.
    pub(super) fn shape(&self) -> Option<ShapeClass> {
        match self {
            Self::Merge(_, class, _, _) => Some(*class),
            Self::Alone(_) => None,
        }
    }
}

impl Owner {
    /// Requests that were in flight, to be run again.
    #[allow(clippy::vec_box)] // As they come from the dispatch.
    pub(super) fn again(&mut self, entries: Vec<Box<Entry>>) {
        for mut entry in entries {
            self.handle.came_back(&mut entry);
            let deadline_us = self.hold_deadline_us(&entry);
            self.place(entry, CLASS_AGAIN, deadline_us);
        }
    }

    /// Moves all arrivals from the ring to where they can be put in order.
    pub(super) fn pull(&mut self) {
        while let Some(entry) = self.handle.next_entry() {
            if self.limits.defers {
                self.deferring.arrived(entry.arrived_us, entry.size.rows);
            }
            let held = self.slots() == 0 || entry.arrived_us < self.held_before_us;
            let deadline_us = if held { self.hold_deadline_us(&entry) } else { entry.deadline_us };
            let class = entry.flow.class;
            self.place(entry, class, deadline_us);
        }
    }

    pub(super) fn place(&mut self, entry: Box<Entry>, class: u8, deadline_us: u64) {
        let key = match entry.mergeable() {
            Some(request) => {
                let class = ShapeClass::of_elements(request.elements_per_row());
                Key::Merge(request.key.clone(), class, entry.scope.clone(), self.apart(&entry))
            }
            None => {
                self.next_alone += 1;
                Key::Alone(self.next_alone)
            }
        };
        let arrival = Ticket {
            class,
            tenant: entry.flow.tenant,
            weight: entry.flow.weight,
            deadline_us,
            size: entry.size,
            arrived_us: entry.arrived_us,
        };
        if self.pending.is_empty() {
            self.deferring.begins(entry.arrived_us);
        }
        self.pending.push(key, arrival, entry);
    }

    /// Until when a request is kept that could not be served in time for want of a model server.
    pub(super) fn hold_deadline_us(&self, entry: &Entry) -> u64 {
        entry.held_until_us(self.limits.hold_us)
    }

    /// The last slot has gone: deadlines within the objective become those of held requests.
    pub(super) fn hold_all(&mut self) {
        for (_, waiting) in self.pending.drain() {
            let deadline_us = self.hold_deadline_us(&waiting.payload);
            self.place(waiting.payload, waiting.order.class, deadline_us);
        }
    }
}
