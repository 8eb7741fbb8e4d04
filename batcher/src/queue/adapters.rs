//! Requests, slots and pools of slots as the engine of a queue sees them.

use std::sync::Arc;

use sluice_batch_policy::{
    Asked, Breaks, Flow, Pool, PoolView, Request, ServerEpoch, ShapeClass, Size, SlotRequest, SlotUse,
};
use sluice_protocol::MergeKey;

use super::caller::Caller;
use super::scope::Scope;
use super::sequence::SequenceKey;
use super::{Entry, ModelHandle};
use crate::slots::{Grant, SharedSlotPool};
use crate::upstream::InFlight;
use crate::upstream::slot::Slot;

impl Request for Box<Entry> {
    type Key = (MergeKey, Option<Scope>);
    type Sender = Caller;
    type Sequence = Arc<SequenceKey>;

    fn size(&self) -> Size {
        self.size
    }

    fn flow(&self) -> Flow {
        self.flow
    }

    fn arrived_us(&self) -> u64 {
        self.arrived_us
    }

    fn deadline_us(&self) -> u64 {
        self.deadline_us
    }

    fn shape(&self) -> Option<ShapeClass> {
        self.mergeable().map(|request| ShapeClass::of_elements(request.elements_per_row()))
    }

    fn key(&self) -> Option<Self::Key> {
        self.mergeable().map(|request| (request.key.clone(), self.scope.clone()))
    }

    fn sender(&self) -> Option<Caller> {
        self.caller
    }

    fn breaks(&self) -> Breaks {
        self.suspicion.breaks
    }

    fn is_cancelled(&self) -> bool {
        Entry::is_cancelled(self)
    }

    fn step(&self) -> Option<(Arc<SequenceKey>, Asked)> {
        self.sequence.as_ref().map(|step| (Arc::clone(&step.key), step.asked))
    }

    fn begin_turn(&mut self, home: Option<ServerEpoch>) {
        if let Some(step) = &mut self.sequence {
            step.begins(home);
        }
    }

    fn home(&self) -> Option<ServerEpoch> {
        self.sequence.as_ref().and_then(|step| step.home)
    }

    fn set_home(&mut self, home: Option<ServerEpoch>) {
        if let Some(step) = &mut self.sequence {
            step.home = home;
        }
    }
}

impl sluice_batch_policy::Slot for Slot {
    type InFlight = InFlight;
    type Pool = ModelPool;

    fn server(&self) -> ServerEpoch {
        ServerEpoch { server: self.upstream.number(), epoch: self.epoch.number }
    }

    fn max_rows(&self) -> u32 {
        self.profile.max_rows
    }

    fn is_absent(&self) -> bool {
        self.profile.absent
    }

    fn slots_hint(&self) -> Option<u32> {
        self.profile.slots_hint
    }

    fn is_current(&self) -> bool {
        Self::is_current(self)
    }

    fn begin(&self) -> Option<InFlight> {
        Self::begin(self)
    }

    fn inflight(&self) -> usize {
        self.upstream.inflight()
    }

    fn another(&self) -> Self {
        self.without_connection()
    }
}

/// One model's access to a pool of slots.
#[derive(Debug)]
pub struct ModelPool {
    pub(super) pool: Arc<SharedSlotPool>,
    pub(super) model: Arc<ModelHandle>,
}

impl Pool for ModelPool {
    type Grant = Grant;

    fn exchange(&self, used: Option<(Grant, SlotUse)>, request: &SlotRequest) -> Option<Grant> {
        self.pool.exchange(&self.model, used, request)
    }

    fn expect_end(&self, grant: &Grant, end_us: u64) {
        grant.expect_end(end_us);
    }

    fn give_back(&self, grant: Grant, used: SlotUse) {
        grant.used(used);
    }

    fn withdraw(&self) {
        self.pool.withdraw(self.model.number);
    }

    fn leave(&self) {
        self.pool.leave(self.model.number);
    }

    fn view(&self) -> PoolView {
        self.pool.view(self.model.number)
    }

    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.pool, &other.pool)
    }

    fn has_granted(&self, grant: &Grant) -> bool {
        grant.is_of(&self.pool)
    }
}
