//! One epoch of one model server, as one model's queue uses it.

use super::outside::{Pool, ServerEpoch, Slot};
use crate::{Load, ShapeClass, SlotUse};

/// Weight of the newest batch in a server's pace.
const PACE_WEIGHT: f64 = 0.2;
/// How fast a server's pace is forgotten, per batch elsewhere.
const PACE_FADES: f64 = 0.1;
/// Largest deviation that one batch can show of a server.
const MOST_PACE: f64 = 4.0;

type GrantOf<S> = <<S as Slot>::Pool as Pool>::Grant;

/// One epoch of one model server.
#[derive(Debug)]
pub(super) struct Server<S: Slot> {
    pub(super) pool: S::Pool,
    /// Template for new slots; carries no open connection.
    pub(super) template: S,
    /// Slots with their connections, kept between batches.
    pub(super) idle: Vec<S>,
    pub(super) state: State<GrantOf<S>>,
    pub(super) running: Vec<Running<GrantOf<S>>>,
    /// Finished batches. Their grants return on the next pass over the queue, with how each was used.
    pub(super) finished: Vec<(GrantOf<S>, SlotUse)>,
    /// Time of one row, roughly, seconds: by it, batches of several models can be compared. Never changes, because
    /// discovery compares over time.
    row_seconds: Option<f64>,
    /// Times of this server ÷ those that the curve of all servers predicts; `None` before the first batch.
    pace: Option<f64>,
    /// Number of the newest batch.
    pub(super) last_used: u64,
}

/// Where a model server stands with the queue.
#[derive(Debug)]
pub(super) enum State<G> {
    /// Batches may be sent. These slots are granted and not used yet; no further one is requested.
    Ready(Vec<G>),
    /// Batches may be sent. A slot was requested and is not granted yet; these were granted before.
    AwaitingGrant(Vec<G>),
    /// A connection failed: nothing is sent until the monitor has looked and given a slot again.
    InDoubt,
    /// The server reports that it does not have the model, and another one has it or may have it.
    PassedOver {
        /// A connection failed too.
        in_doubt: bool,
    },
}

/// A batch in flight.
#[derive(Debug)]
pub(super) struct Running<G> {
    pub(super) number: u64,
    pub(super) class: Option<ShapeClass>,
    pub(super) started_us: u64,
    /// When it is expected to end.
    pub(super) end_us: u64,
    pub(super) grant: G,
}

impl<S: Slot> Server<S> {
    pub(super) fn new(pool: S::Pool, slot: S) -> Self {
        Self {
            pool,
            template: slot.another(),
            idle: vec![slot],
            state: State::Ready(Vec::new()),
            running: Vec::new(),
            finished: Vec::new(),
            row_seconds: None,
            pace: None,
            last_used: 0,
        }
    }

    pub(super) fn id(&self) -> ServerEpoch {
        self.template.server()
    }

    /// Returns whether a grant and a slot are from here. Epochs of one model server share a pool.
    pub(super) fn is_of(&self, grant: &GrantOf<S>, slot: &S) -> bool {
        self.pool.has_granted(grant) && self.id().epoch == slot.server().epoch
    }

    /// Returns whether batches may be sent there.
    pub(super) fn is_good(&self) -> bool {
        matches!(self.state, State::Ready(_) | State::AwaitingGrant(_)) && self.template.is_current()
    }

    pub(super) fn is_passed_over(&self) -> bool {
        matches!(self.state, State::PassedOver { .. })
    }

    /// Returns whether a sequence whose state it has can go on there.
    pub(super) fn has_state(&self) -> bool {
        self.template.is_current() && !self.is_passed_over()
    }

    /// Returns whether slots are granted and not used yet.
    pub(super) fn is_granted(&self) -> bool {
        matches!(&self.state, State::Ready(granted) | State::AwaitingGrant(granted) if !granted.is_empty())
    }

    /// Returns whether no slot is requested.
    pub(super) fn may_request(&self) -> bool {
        matches!(self.state, State::Ready(_))
    }

    /// Takes a slot that is granted already.
    pub(super) fn take_granted(&mut self) -> Option<GrantOf<S>> {
        match &mut self.state {
            State::Ready(granted) | State::AwaitingGrant(granted) => granted.pop(),
            State::InDoubt | State::PassedOver { .. } => None,
        }
    }

    /// Notes the answer to a request for a slot, or a grant that comes later. A server that may not be used gives it
    /// back.
    pub(super) fn requested(&mut self, granted: Option<GrantOf<S>>) {
        self.state = match std::mem::replace(&mut self.state, State::InDoubt) {
            State::Ready(mut before) | State::AwaitingGrant(mut before) => match granted {
                Some(grant) => {
                    before.push(grant);
                    State::Ready(before)
                }
                None => State::AwaitingGrant(before),
            },
            state => state,
        };
    }

    /// Puts a slot back that was taken for nothing.
    pub(super) fn put_back(&mut self, grant: GrantOf<S>) {
        if let State::Ready(granted) | State::AwaitingGrant(granted) = &mut self.state {
            granted.push(grant);
        }
    }

    /// Forgets that a slot is requested: the next request reports settings to the pool.
    pub(super) fn request_again(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::InDoubt) {
            State::AwaitingGrant(granted) => State::Ready(granted),
            state => state,
        };
    }

    /// Gives slots back that are granted, and requests none.
    pub(super) fn rest(&mut self) {
        let is_idle = match &self.state {
            State::Ready(granted) => granted.is_empty(),
            State::AwaitingGrant(_) => false,
            State::InDoubt | State::PassedOver { .. } => true,
        };
        if is_idle {
            return;
        }
        // Withdrawn first, so that what goes back is not granted to the same queue again.
        if matches!(self.state, State::AwaitingGrant(_)) {
            self.pool.withdraw();
        }
        match &mut self.state {
            State::Ready(granted) => granted.clear(),
            state => *state = State::Ready(Vec::new()),
        }
    }

    /// Notes that a connection failed.
    pub(super) fn doubt(&mut self) {
        // A slot that is granted now is another queue's.
        self.rest();
        self.state = match self.state {
            State::PassedOver { .. } => State::PassedOver { in_doubt: true },
            _ => State::InDoubt,
        };
    }

    /// Takes in a slot that the monitor has given: the server can be trusted.
    pub(super) fn trust(&mut self, slot: S, slots_per_server: u32) {
        // A slot that was granted meanwhile went back unused: it is requested anew.
        self.request_again();
        self.state = match std::mem::replace(&mut self.state, State::InDoubt) {
            State::InDoubt => State::Ready(Vec::new()),
            State::PassedOver { .. } => State::PassedOver { in_doubt: false },
            state => state,
        };
        self.template = slot.another();
        if self.idle.len() + self.running.len() < self.slots(slots_per_server) as usize {
            self.idle.push(slot);
        }
    }

    /// Passes the server over, or no longer.
    pub(super) fn set_passed_over(&mut self, is_passed_over: bool) {
        match (&self.state, is_passed_over) {
            (State::PassedOver { .. }, true) => {}
            (State::PassedOver { in_doubt: true }, false) => self.state = State::InDoubt,
            (State::PassedOver { in_doubt: false }, false) => self.state = State::Ready(Vec::new()),
            (_, true) => {
                self.rest();
                self.state = State::PassedOver { in_doubt: matches!(self.state, State::InDoubt) };
            }
            (_, false) => {}
        }
    }

    /// Notes that a batch of `rows` rows has ended; returns the class of its requests. `slot`: `None` where its
    /// connection failed.
    pub(super) fn ended(
        &mut self,
        batch: usize,
        slot: Option<S>,
        rows: u32,
        now_us: u64,
    ) -> Option<ShapeClass> {
        let running = self.running.swap_remove(batch);
        let us = now_us.saturating_sub(running.started_us);
        let rows = f64::from(rows);
        if self.row_seconds.is_none() && rows > 0.0 {
            self.row_seconds = Some(us as f64 / 1e6 / rows);
        }
        let work = rows * self.row_seconds.unwrap_or(0.0);
        self.finished.push((running.grant, SlotUse { us, work }));
        match slot {
            Some(slot) if slot.is_current() => self.idle.push(slot),
            Some(_) => {}
            None => self.doubt(),
        }
        running.class
    }

    /// Notes how the time of a batch here compares with the prediction.
    pub(super) fn paced(&mut self, ratio: f64) {
        let ratio = ratio.clamp(1.0 / MOST_PACE, MOST_PACE);
        self.pace = Some(self.pace.map_or(ratio, |pace| pace + PACE_WEIGHT * (ratio - pace)));
    }

    /// Notes a batch elsewhere. The curve follows the servers that are used: what was measured against an older curve
    /// fades, so that a server that looked slow once is tried again.
    pub(super) fn pace_fades(&mut self) {
        self.pace = self.pace.map(|pace| pace + PACE_FADES * (1.0 - pace));
    }

    /// Returns the slots of the model server: as set, or as found out so far.
    fn slots(&self, slots_per_server: u32) -> u32 {
        match slots_per_server {
            0 => self.pool.view().slots.max(1),
            slots => slots,
        }
    }

    /// Returns the slots that the queue can count on: all of a good server, of another one those that are still in use.
    pub(super) fn counted_slots(&self, slots_per_server: u32) -> u32 {
        if self.is_good() { self.slots(slots_per_server) } else { self.running.len() as u32 }
    }

    /// Returns when the batches in flight are expected to end.
    pub(super) fn ends_us(&self) -> impl Iterator<Item = u64> {
        self.running.iter().map(|running| running.end_us)
    }

    pub(super) fn load(&self, now_us: u64) -> Load {
        Load {
            remaining_us: self.ends_us().map(|end_us| end_us.saturating_sub(now_us)).sum(),
            pace: self.pace.unwrap_or(1.0),
            inflight: self.template.inflight(),
            last_used: self.last_used,
        }
    }
}
