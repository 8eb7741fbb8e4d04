//! Gives the slots of one model server to the models that use it: decides which model may send a batch there now.

use crate::{NextBatch, SlotDiscovery, SlotShare};

/// Largest number of slots that discovery tries.
const MOST_DISCOVERED: u32 = 64;

/// Slots of one model server, given out by [`SlotShare`]. Where their number is not set, the pool finds it out.
/// Users have numbers; a number is never used again.
#[derive(Debug)]
pub struct SlotPool {
    share: SlotShare<u64>,
    /// Grants that are not given back yet: number and expected end, microseconds.
    out: Vec<(u64, u64)>,
    next_grant: u64,
    /// Latest instant of a request, microseconds.
    now_us: u64,
    /// Search for the number of slots of this epoch, where it is not set.
    discovery: Option<SlotDiscovery>,
    epoch: u64,
}

/// Request for one slot.
#[derive(Debug, Clone, Copy)]
pub struct SlotRequest {
    /// Weight of the model's part of the slot time, relative to others'.
    pub weight: u32,
    /// Number of slots of the model server, as set; 0: the pool finds it out.
    pub slots: u32,
    /// Epoch of the model server: another epoch may have another number of slots.
    pub epoch: u64,
    /// Number of slots that the model server's configuration suggests, at which discovery starts.
    pub hint: u32,
    /// Batch that would be sent.
    pub next: NextBatch,
    /// Now, microseconds.
    pub now_us: u64,
}

/// Slot that is given out. It has to be given back to its pool.
#[derive(Debug)]
pub struct SlotGrant {
    user: u64,
    number: u64,
    charged_us: u64,
}

/// Time and work for which a slot was used.
#[derive(Debug, Clone, Copy, Default)]
pub struct SlotUse {
    /// Duration, microseconds.
    pub us: u64,
    /// Work that was done, in seconds of a reference batch: comparable between all batches of one model server. 0 where
    /// that is not known.
    pub work: f64,
}

/// State of a pool for one user.
#[derive(Debug, Clone, Copy)]
pub struct PoolView {
    /// Number of slots, as requested last or found out; 0 before the first request.
    pub slots: u32,
    /// Slots that are given out.
    pub running: u32,
    /// Instant at which the first slot is expected back, microseconds; `None` where no slot is given out.
    pub first_end_us: Option<u64>,
    /// Slot time that other users get before the user's next turn, microseconds.
    pub before_turn_us: u64,
    /// Part of all slot time, 0 to 1, that the user gets while the others go on.
    pub share: f64,
}

impl SlotGrant {
    /// Returns the user that the slot was given to.
    pub fn user(&self) -> u64 {
        self.user
    }
}

impl SlotPool {
    /// Creates a pool of `slots` free slots; 0 where the first request brings their number.
    pub fn new(slots: u32) -> Self {
        Self {
            share: SlotShare::new(slots),
            out: Vec::new(),
            next_grant: 0,
            now_us: 0,
            discovery: None,
            epoch: 0,
        }
    }

    /// Notes that a user wants one slot. Call it before giving a slot back where there is more to do: a user that
    /// neither holds nor wants a slot is idle, and is not compensated for time that it was charged too much.
    pub fn want(&mut self, user: u64, request: &SlotRequest) {
        self.now_us = self.now_us.max(request.now_us);
        self.set_slots(request);
        self.share.want(user, request.weight, request.next);
    }

    /// Takes a grant back.
    pub fn give_back(&mut self, grant: SlotGrant, used: SlotUse) {
        let SlotGrant { user, number, charged_us } = grant;
        self.out.retain(|(other, _)| *other != number);
        self.share.give_back(user, charged_us, used.us);
        if let Some(discovery) = self.discovery.as_mut().filter(|_| used.work > 0.0) {
            discovery.ended(self.now_us, used.work);
            self.share.set_slots(discovery.slots());
        }
    }

    /// Sets the instant at which the batch in a slot is expected to end. The user was charged for the rows that it had
    /// when it began to wait for the slot, and the batch usually has more.
    pub fn expect_end(&mut self, grant: &SlotGrant, end_us: u64) {
        if let Some((_, known_us)) = self.out.iter_mut().find(|(number, _)| *number == grant.number) {
            *known_us = end_us;
        }
    }

    /// Gives a free slot to the user whose turn it is; `None` where no slot is free or no user wants one. Call it until
    /// it returns `None` after each change.
    pub fn grant(&mut self) -> Option<SlotGrant> {
        let Some((user, charged_us)) = self.share.grant(self.now_us) else {
            if let Some(discovery) = self.discovery.as_mut().filter(|_| self.share.free() > 0) {
                discovery.unsaturated();
            }
            return None;
        };
        self.next_grant += 1;
        let number = self.next_grant;
        self.out.push((number, self.now_us.saturating_add(charged_us)));
        Some(SlotGrant { user, number, charged_us })
    }

    /// Notes that a user wants no slot any more.
    pub fn withdraw(&mut self, user: u64) {
        self.share.withdraw(user);
    }

    /// Forgets a user. Slots that were granted to it have to be given back as well.
    pub fn leave(&mut self, user: u64) {
        self.share.leave(user);
    }

    /// Returns the state of the pool for a user.
    pub fn view(&self, user: u64) -> PoolView {
        PoolView {
            slots: self.share.slots(),
            running: self.share.running(),
            first_end_us: self.out.iter().map(|(_, end_us)| *end_us).min(),
            before_turn_us: self.share.before_turn_of_us(user),
            share: self.share.part_of(user),
        }
    }

    fn set_slots(&mut self, request: &SlotRequest) {
        if request.slots > 0 {
            self.discovery = None;
            self.share.set_slots(request.slots);
            return;
        }
        if self.discovery.is_none() || self.epoch != request.epoch {
            self.epoch = request.epoch;
            let discovery = self.discovery.insert(SlotDiscovery::new(request.hint, MOST_DISCOVERED));
            self.share.set_slots(discovery.slots());
        }
    }
}
