//! What will happen, earliest first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::model::ModelId;
use crate::server::ServerId;
use crate::source::SourceId;

/// Something that happens at an instant. Of what happens at the same instant, variants go in this order, so that a batch
/// that ends frees its slot for the request that arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Next {
    /// A batch ends.
    BatchEnds { model: ModelId, batch: u64 },
    /// A model server has started.
    ServerReady(ServerId),
    /// Requests of a source arrive.
    Arrival(SourceId),
    /// The engine of a model wants a turn.
    Turn(ModelId),
}

/// The events to come.
#[derive(Debug, Default)]
pub(crate) struct EventHeap(BinaryHeap<Reverse<(u64, Next)>>);

impl EventHeap {
    pub(crate) fn push(&mut self, at_us: u64, next: Next) {
        self.0.push(Reverse((at_us, next)));
    }

    /// Takes out the next event that happens until `until_us`.
    pub(crate) fn pop_until(&mut self, until_us: u64) -> Option<(u64, Next)> {
        let Reverse((at_us, _)) = self.0.peek()?;
        if *at_us > until_us {
            return None;
        }
        self.0.pop().map(|Reverse(event)| event)
    }
}
