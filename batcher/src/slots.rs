//! The slots of one model server, between the queues that use it: a [`SlotPool`] that several tasks share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluice_batch_policy::{PoolView, SlotGrant, SlotPool, SlotRequest, SlotUse};

/// A queue that wants slots.
pub trait SlotUser: std::fmt::Debug + Send + Sync + 'static {
    /// Returns a number that no other queue has, or had before.
    fn number(&self) -> u64;

    /// Takes in a slot that the queue had to wait for.
    fn granted(&self, grant: Grant);
}

/// A pool of slots that several queues share. A queue that requests a slot and cannot have it now is given it later
/// ([`SlotUser::granted`]); the queue decides then what to send.
#[derive(Debug)]
pub struct SharedSlotPool {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    pool: SlotPool,
    users: Vec<Arc<dyn SlotUser>>,
}

/// One slot of a model server, until it is given back. Dropped, it goes back unused.
#[derive(Debug)]
pub struct Grant {
    pool: Arc<SharedSlotPool>,
    /// `None` once it was given back.
    granted: Option<SlotGrant>,
}

/// A slot, and the queue that has waited for it.
type Granted = (Arc<dyn SlotUser>, Grant);

impl Drop for Grant {
    fn drop(&mut self) {
        self.give_back(SlotUse::default());
    }
}

impl Grant {
    /// Returns whether the slot is of this pool.
    pub(crate) fn is_of(&self, pool: &Arc<SharedSlotPool>) -> bool {
        Arc::ptr_eq(&self.pool, pool)
    }

    /// Notes when the batch that the slot is used for is expected to end, microseconds.
    pub(crate) fn expect_end(&self, end_us: u64) {
        if let Some(granted) = &self.granted {
            self.pool.lock().pool.expect_end(granted, end_us);
        }
    }

    /// Gives the slot back after its use; a queue that waits for one gets it.
    pub(crate) fn used(mut self, used: SlotUse) {
        self.give_back(used);
    }

    fn give_back(&mut self, used: SlotUse) {
        let Some(granted) = self.granted.take() else { return };
        let pool = Arc::clone(&self.pool);
        let mut state = pool.lock();
        state.pool.give_back(granted, used);
        let (_, others) = pool.grant(&mut state, None);
        drop(state);
        others.into_iter().for_each(hand_over);
    }
}

/// Hands a slot to the queue that has waited for it. Called without the pool's lock, because a queue that has ended drops
/// the grant.
fn hand_over((user, grant): Granted) {
    user.granted(grant);
}

impl SharedSlotPool {
    /// Creates a pool of `slots` slots; 0 where their number comes with the first request.
    pub fn new(slots: u32) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { pool: SlotPool::new(slots), users: Vec::new() }) })
    }

    /// Requests a slot, after giving another one back in the same step: it goes to the queue whose turn it is, perhaps to
    /// the same queue again. `None`: it comes later.
    pub(crate) fn exchange(
        self: &Arc<Self>,
        user: &Arc<impl SlotUser>,
        used: Option<(Grant, SlotUse)>,
        request: &SlotRequest,
    ) -> Option<Grant> {
        let number = user.number();
        let mut state = self.lock();
        if !state.users.iter().any(|other| other.number() == number) {
            let added = Arc::clone(user);
            state.users.push(added);
        }
        // Wanted before the other one is given back: a queue that wants more is not idle.
        state.pool.want(number, request);
        if let Some((mut grant, used)) = used
            && let Some(granted) = grant.granted.take()
        {
            state.pool.give_back(granted, used);
        }
        let (own, others) = self.grant(&mut state, Some(number));
        drop(state);
        others.into_iter().for_each(hand_over);
        own
    }

    /// Withdraws the request of a queue.
    pub(crate) fn withdraw(&self, user: u64) {
        self.lock().pool.withdraw(user);
    }

    /// Forgets a queue.
    pub(crate) fn leave(&self, user: u64) {
        let mut state = self.lock();
        state.pool.leave(user);
        state.users.retain(|other| other.number() != user);
    }

    /// Returns what a queue sees of the pool.
    pub(crate) fn view(&self, user: u64) -> PoolView {
        self.lock().pool.view(user)
    }

    /// Grants what can be granted: to the queue that asks, and to others.
    fn grant(self: &Arc<Self>, state: &mut State, asking: Option<u64>) -> (Option<Grant>, Vec<Granted>) {
        let (mut own, mut others) = (None, Vec::new());
        while let Some(granted) = state.pool.grant() {
            let user = granted.user();
            let Some(waiting) = state.users.iter().find(|other| other.number() == user) else {
                state.pool.give_back(granted, SlotUse::default());
                continue;
            };
            let grant = Grant { pool: Arc::clone(self), granted: Some(granted) };
            match asking {
                Some(asking) if asking == user => own = Some(grant),
                _ => others.push((Arc::clone(waiting), grant)),
            }
        }
        (own, others)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No change in here is left half-way by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
