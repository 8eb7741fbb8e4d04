//! The slots of one model server, between the queues that use it: who may run a batch there now.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluice_batch_policy::{NextBatch, SlotDiscovery, SlotShare};

/// A queue that wants slots.
pub trait SlotUser: std::fmt::Debug + Send + Sync + 'static {
    /// Tells it from all others, those of models that had its model's name before too.
    fn number(&self) -> u64;

    /// Hands it a slot that it had to wait for.
    fn granted(&self, grant: Grant);
}

/// Gives out the slots of one model server by [`SlotShare`]. A queue that wants one and cannot have it now hears
/// later ([`SlotUser::granted`]); what it sends then is decided then.
#[derive(Debug)]
pub struct SlotGate {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    share: SlotShare<u64>,
    /// The queues.
    users: Vec<Arc<dyn SlotUser>>,
    /// Grants that are out: number and expected end.
    out: Vec<(u64, u64)>,
    next_grant: u64,
    /// The latest instant that was heard of.
    now_us: u64,
    /// Where the number of slots is to be found out, for this epoch.
    discovery: Option<SlotDiscovery>,
    epoch: u64,
}

/// Most slots that discovery tries.
const MOST_DISCOVERED: u32 = 64;

/// One slot's worth of a model server, until it is given back. Dropped, it goes back as unused.
#[derive(Debug)]
pub struct Grant {
    gate: Arc<SlotGate>,
    user: u64,
    number: u64,
    /// `None` once it was given back.
    charged_us: Option<u64>,
}

/// A slot, and the queue that has waited for it.
type Granted = (Arc<dyn SlotUser>, Grant);

/// Wish for a slot.
pub(crate) struct Claim<'a, U> {
    pub(crate) user: &'a Arc<U>,
    /// Its part of the slot time relative to others'.
    pub(crate) weight: u32,
    /// Slots of the model server, as set now; 0: to be found out.
    pub(crate) slots: u32,
    /// The epoch of the model server: another one may have another number.
    pub(crate) epoch: u64,
    /// What the model server says of its number of slots, to start from.
    pub(crate) hint: u32,
    /// The batch that it would send.
    pub(crate) next: NextBatch,
    pub(crate) now_us: u64,
}

/// How a slot was used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Use {
    /// How long.
    pub(crate) us: u64,
    /// What was done, in seconds of work: comparable between the batches of one model server.
    pub(crate) work: f64,
}

/// What a queue sees of a gate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GateView {
    /// Slots that there are, as last claimed or found out; 0 before.
    pub(crate) slots: u32,
    /// Slots that are out.
    pub(crate) running: u32,
    /// When the first slot that is out is expected back, where one is.
    pub(crate) first_end_us: Option<u64>,
    /// Slot time that other queues get before the asking one's next turn.
    pub(crate) before_turn_us: u64,
    /// The part of all slot time that the asking queue gets while the others go on.
    pub(crate) share: f64,
}

impl Drop for Grant {
    fn drop(&mut self) {
        if self.charged_us.is_some() {
            self.give_back(Use { us: 0, work: 0.0 });
        }
    }
}

impl Grant {
    /// Whose slot it is.
    pub(crate) fn is_of(&self, gate: &Arc<SlotGate>) -> bool {
        Arc::ptr_eq(&self.gate, gate)
    }

    /// Gives the slot back after its use; whoever waits for one gets it.
    pub(crate) fn used(mut self, used: Use) {
        self.give_back(used);
    }

    fn give_back(&mut self, used: Use) {
        let gate = Arc::clone(&self.gate);
        let mut state = gate.lock();
        state.settle(self, used);
        let now_us = state.now_us;
        let (_, others) = gate.grant(&mut state, None, now_us);
        drop(state);
        others.into_iter().for_each(tell);
    }
}

impl State {
    fn want(&mut self, claim: &Claim<'_, impl SlotUser>) {
        self.now_us = self.now_us.max(claim.now_us);
        self.set_slots(claim);
        let user = claim.user.number();
        if !self.users.iter().any(|other| other.number() == user) {
            let added = Arc::clone(claim.user);
            self.users.push(added);
        }
        self.share.want(user, claim.weight, claim.next);
    }

    fn set_slots(&mut self, claim: &Claim<'_, impl SlotUser>) {
        if claim.slots > 0 {
            self.discovery = None;
            self.share.set_slots(claim.slots);
            return;
        }
        if self.discovery.is_none() || self.epoch != claim.epoch {
            self.epoch = claim.epoch;
            let discovery = self.discovery.insert(SlotDiscovery::new(claim.hint, MOST_DISCOVERED));
            self.share.set_slots(discovery.slots());
        }
    }

    /// Takes a grant back, once.
    fn settle(&mut self, grant: &mut Grant, used: Use) {
        let Some(charged_us) = grant.charged_us.take() else { return };
        self.out.retain(|(number, _)| *number != grant.number);
        self.share.give_back(grant.user, charged_us, used.us);
        if let Some(discovery) = self.discovery.as_mut().filter(|_| used.work > 0.0) {
            discovery.ended(self.now_us, used.work);
            self.share.set_slots(discovery.slots());
        }
    }
}

/// Tells queues what they were granted; without the gate's lock, for a queue that has ended drops its grant.
fn tell((user, grant): Granted) {
    user.granted(grant);
}

impl SlotGate {
    /// With so many slots.
    pub fn new(slots: u32) -> Arc<Self> {
        let share = SlotShare::new(slots);
        Arc::new(Self {
            state: Mutex::new(State {
                share,
                users: Vec::new(),
                out: Vec::new(),
                next_grant: 0,
                now_us: 0,
                discovery: None,
                epoch: 0,
            }),
        })
    }

    /// A slot, now or later; one at a time.
    pub(crate) fn claim(self: &Arc<Self>, claim: &Claim<'_, impl SlotUser>) -> Option<Grant> {
        self.exchange(None, claim)
    }

    /// Gives a slot back that was used for so long, and claims the next one: it goes to whoever is next, perhaps to
    /// the same queue again.
    pub(crate) fn exchange(
        self: &Arc<Self>,
        used: Option<(Grant, Use)>,
        claim: &Claim<'_, impl SlotUser>,
    ) -> Option<Grant> {
        let mut state = self.lock();
        // Wanted before it is given back: who wants more is not idle.
        state.want(claim);
        if let Some((mut grant, used)) = used {
            state.settle(&mut grant, used);
        }
        let (own, others) = self.grant(&mut state, Some(claim.user.number()), claim.now_us);
        drop(state);
        others.into_iter().for_each(tell);
        own
    }

    /// A queue wants nothing any more.
    pub(crate) fn withdraw(&self, user: u64) {
        self.lock().share.withdraw(user);
    }

    /// A queue has ended.
    pub(crate) fn leave(&self, user: u64) {
        let mut state = self.lock();
        state.share.leave(user);
        state.users.retain(|other| other.number() != user);
    }

    pub(crate) fn view(&self, user: u64) -> GateView {
        let state = self.lock();
        GateView {
            slots: state.share.slots(),
            running: state.share.running(),
            first_end_us: state.out.iter().map(|(_, end_us)| *end_us).min(),
            before_turn_us: state.share.before_turn_of_us(user),
            share: state.share.part_of(user),
        }
    }

    /// Grants what can be granted: the asking queue's own, and those of others.
    fn grant(
        self: &Arc<Self>,
        state: &mut State,
        asking: Option<u64>,
        now_us: u64,
    ) -> (Option<Grant>, Vec<Granted>) {
        let (mut own, mut others) = (None, Vec::new());
        while let Some((user, charged_us)) = state.share.grant(now_us) {
            let Some(waiting) = state.users.iter().find(|other| other.number() == user).cloned() else {
                state.share.give_back(user, charged_us, 0);
                continue;
            };
            state.next_grant += 1;
            let number = state.next_grant;
            state.out.push((number, now_us.saturating_add(charged_us)));
            let grant = Grant { gate: Arc::clone(self), user, number, charged_us: Some(charged_us) };
            match asking {
                Some(asking) if asking == user => own = Some(grant),
                _ => others.push((waiting, grant)),
            }
        }
        if let Some(discovery) = state.discovery.as_mut().filter(|_| state.share.free() > 0) {
            discovery.unsaturated();
        }
        (own, others)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
