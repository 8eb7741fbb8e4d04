//! What the engine has to know of requests, slots and pools, which belong to the program that drives it. Facts that
//! change by themselves (a client has gone, a model server has changed) are asked for when they matter.

use std::fmt::Debug;
use std::hash::Hash;

use crate::{Asked, Breaks, Flow, PoolView, ShapeClass, Size, SlotRequest, SlotUse};

/// One epoch of one model server: its state is lost when either number changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerEpoch {
    /// Number of the model server; never used again.
    pub server: u64,
    /// Number of its epoch.
    pub epoch: u64,
}

/// A request that waits.
pub trait Request: Debug + Sized {
    /// What requests must have in common to share a batch.
    type Key: Debug + Clone + Eq + Hash;
    /// Sender of a request, whose requests may have to go apart from those of others.
    type Sender: Debug + Copy + Eq + Hash;
    /// Name of a sequence.
    type Sequence: Debug + Clone + Eq + Hash;

    /// Returns what it adds to a batch.
    fn size(&self) -> Size;

    /// Returns its class, and its tenant with the weight.
    fn flow(&self) -> Flow;

    /// Returns when it arrived, microseconds.
    fn arrived_us(&self) -> u64;

    /// Returns when its answer is due, microseconds; [`crate::NO_DEADLINE`] without a deadline.
    fn deadline_us(&self) -> u64;

    /// Returns until when it is kept where it cannot be answered in time and is not to blame for that, microseconds.
    fn held_until_us(&self, hold_us: u64) -> u64 {
        self.deadline_us().max(self.arrived_us().saturating_add(hold_us))
    }

    /// Returns the shape class of its rows; `None` where it must not share a batch.
    fn shape(&self) -> Option<ShapeClass>;

    /// Returns what it shares with the other requests of its batch; `None` where it must not share a batch.
    fn key(&self) -> Option<Self::Key>;

    /// Returns its sender; `None` where that is not known.
    fn sender(&self) -> Option<Self::Sender>;

    /// Returns the connections that broke with it alone in its call.
    fn breaks(&self) -> Breaks;

    /// Returns whether the client no longer waits.
    fn is_cancelled(&self) -> bool;

    /// Returns the sequence that it is a step of; `None` where it is no step.
    fn step(&self) -> Option<(Self::Sequence, Asked)>;

    /// Starts its turn as a step: from now on the end of its turn is to be reported as
    /// [`QueueEvent::StepOver`](super::QueueEvent::StepOver). It must go to `home`; `None`: to any server.
    fn begin_turn(&mut self, home: Option<ServerEpoch>);

    /// Returns the model server that it must go to as a step; `None`: any, or it does not have its turn.
    fn home(&self) -> Option<ServerEpoch>;

    /// Changes the model server that it must go to.
    fn set_home(&mut self, home: Option<ServerEpoch>);
}

/// The means to send one batch to one epoch of a model server: what travels with a batch and comes back with its end.
pub trait Slot: Debug + Sized {
    /// Counts a batch as in flight at the model server until it is dropped.
    type InFlight: Debug;
    /// Pool that gives out the slots of the model server.
    type Pool: Pool;

    /// Returns where batches in this slot go.
    fn server(&self) -> ServerEpoch;

    /// Returns the most rows that a batch may have there.
    fn max_rows(&self) -> u32;

    /// Returns whether the model server reports that it does not have the model.
    fn is_absent(&self) -> bool;

    /// Returns the number of slots that the model server's configuration suggests, where it does.
    fn slots_hint(&self) -> Option<u32>;

    /// Returns whether the epoch goes on.
    fn is_current(&self) -> bool;

    /// Starts a batch; `None` where the epoch is over.
    fn begin(&self) -> Option<Self::InFlight>;

    /// Returns how much is in flight at the model server.
    fn inflight(&self) -> usize;

    /// Creates another slot of the same epoch.
    fn another(&self) -> Self;
}

/// One model's access to the pool of slots of a model server ([`crate::SlotPool`]), which it may share with other models.
pub trait Pool: Debug {
    /// The right to use one slot. When it is dropped, the slot goes back unused.
    type Grant: Debug;

    /// Requests a slot, after giving back another one in the same step. `None`: it is granted later
    /// ([`QueueEvent::Granted`](super::QueueEvent::Granted)).
    fn exchange(&self, used: Option<(Self::Grant, SlotUse)>, request: &SlotRequest) -> Option<Self::Grant>;

    /// Notes when the batch that a slot is used for is expected to end, microseconds.
    fn expect_end(&self, grant: &Self::Grant, end_us: u64);

    /// Gives a slot back.
    fn give_back(&self, grant: Self::Grant, used: SlotUse);

    /// Withdraws the request for a slot.
    fn withdraw(&self);

    /// Ends this model's use of the pool.
    fn leave(&self);

    /// Returns what the model sees of the pool.
    fn view(&self) -> PoolView;

    /// Returns whether both are of one pool.
    fn is_same(&self, other: &Self) -> bool;

    /// Returns whether a grant came from this pool.
    fn has_granted(&self, grant: &Self::Grant) -> bool;
}
