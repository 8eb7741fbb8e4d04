//! Slots of a simulated model server, between the models that use it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use sluice_batch_policy::{NextBatch, Pool, PoolView, SlotGrant, SlotPool, SlotRequest, SlotUse};

use crate::model::ModelId;

/// How models share slots, and what admission knows of it. [`Sharing::Turns`] is what the batcher does; the others are
/// there to be compared with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// In turns as long as all can wait, else by slot time.
    #[default]
    Turns,
    /// By slot time alone, as if each batch were needed at once.
    TimeAlone,
    /// In turns, but admission takes all slots for the model's own.
    TurnsUnforeseen,
}

/// A slot that was granted to a model that had to wait for it.
type Granted = (ModelId, Grant);

/// Grants that have not reached their models yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct GrantQueue(Rc<RefCell<VecDeque<Granted>>>);

impl GrantQueue {
    pub(crate) fn pop(&self) -> Option<Granted> {
        self.0.borrow_mut().pop_front()
    }
}

/// A pool that several models share.
#[derive(Debug)]
pub(crate) struct SharedPool {
    pool: RefCell<SlotPool>,
    sharing: Sharing,
    grants: GrantQueue,
}

/// One slot, until it is given back. Dropped, it goes back unused.
#[derive(Debug)]
pub(crate) struct Grant {
    pool: Rc<SharedPool>,
    granted: Option<SlotGrant>,
}

impl Drop for Grant {
    fn drop(&mut self) {
        if let Some(granted) = self.granted.take() {
            self.pool.pool.borrow_mut().give_back(granted, SlotUse::default());
            self.pool.grant(None);
        }
    }
}

impl SharedPool {
    pub(crate) fn new(sharing: Sharing, grants: GrantQueue) -> Rc<Self> {
        Rc::new(Self { pool: RefCell::new(SlotPool::new(0)), sharing, grants })
    }

    /// Grants what can be granted; returns the grant of the model that asks, and queues those of others.
    fn grant(self: &Rc<Self>, asking: Option<ModelId>) -> Option<Grant> {
        let mut own = None;
        while let Some(granted) = { self.pool.borrow_mut().grant() } {
            let model = ModelId(granted.user() as usize);
            let grant = Grant { pool: Rc::clone(self), granted: Some(granted) };
            if asking == Some(model) {
                own = Some(grant);
            } else {
                self.grants.0.borrow_mut().push_back((model, grant));
            }
        }
        own
    }
}

/// One model's access to a pool.
#[derive(Debug, Clone)]
pub(crate) struct ModelPool {
    pub(crate) pool: Rc<SharedPool>,
    pub(crate) model: ModelId,
}

impl ModelPool {
    fn user(&self) -> u64 {
        self.model.0 as u64
    }
}

impl Pool for ModelPool {
    type Grant = Grant;

    fn exchange(&self, used: Option<(Grant, SlotUse)>, request: &SlotRequest) -> Option<Grant> {
        let next = match self.pool.sharing {
            Sharing::TimeAlone => NextBatch { start_by_us: 0, ..request.next },
            Sharing::Turns | Sharing::TurnsUnforeseen => request.next,
        };
        {
            let mut pool = self.pool.pool.borrow_mut();
            pool.want(self.user(), &SlotRequest { next, ..*request });
            if let Some((mut grant, used)) = used
                && let Some(granted) = grant.granted.take()
            {
                pool.give_back(granted, used);
            }
        }
        self.pool.grant(Some(self.model))
    }

    fn expect_end(&self, grant: &Grant, end_us: u64) {
        if let Some(granted) = &grant.granted {
            self.pool.pool.borrow_mut().expect_end(granted, end_us);
        }
    }

    fn give_back(&self, mut grant: Grant, used: SlotUse) {
        if let Some(granted) = grant.granted.take() {
            self.pool.pool.borrow_mut().give_back(granted, used);
            self.pool.grant(None);
        }
    }

    fn withdraw(&self) {
        self.pool.pool.borrow_mut().withdraw(self.user());
    }

    fn leave(&self) {
        self.pool.pool.borrow_mut().leave(self.user());
    }

    fn view(&self) -> PoolView {
        let view = self.pool.pool.borrow().view(self.user());
        match self.pool.sharing {
            Sharing::TurnsUnforeseen => PoolView { before_turn_us: 0, share: 1.0, ..view },
            Sharing::Turns | Sharing::TimeAlone => view,
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.pool, &other.pool)
    }

    fn has_granted(&self, grant: &Grant) -> bool {
        Rc::ptr_eq(&self.pool, &grant.pool)
    }
}
