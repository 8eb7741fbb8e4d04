//! Shares the slots of one model server fairly between the queues (models) that use it.

mod foresight;
#[cfg(test)]
mod tests;

use crate::Lane;

/// Virtual microseconds of one microsecond at weight 1.
const SCALE: u64 = 1024;
/// Weight of one batch in the average of recent slot use: half of the average is forgotten after fourteen batches.
const NEWS: f64 = 0.05;

/// Grants slots to users: in turn while all users can wait for a turn, by fair share where one cannot.
///
/// - A user *needs* a slot now where it has a full batch waiting, or where its batch would be late if all other users
///   that want a slot had theirs first.
/// - Among users that need a slot the next one is chosen by start-time fair queueing with depth, SFQ(D): Goyal, Vin and
///   Cheng, SIGCOMM'96, for more than one slot at a time Jin, Chase and Kaur, SIGMETRICS'04. What is shared is *slot
///   time* (a batch of one model may take ten times that of another), in proportion to the users' weights. Each grant
///   is charged with its expected time at once and corrected when its real time is known.
/// - A user that has had no more than that one, and can wait, takes turns with it: the user whose last grant is the
///   oldest is next.
///
/// Why turns: a batch of a few rows takes nearly as long as one of many. By share alone, a model with few requests
/// would fill its part of the time with tiny batches, while another model that needs more than its own part starves,
/// although that time could be spared. So the share bounds the slot time that a flood takes, and gives no user slots
/// that its objective does not need.
///
/// No slot is kept free while a user wants one, and a user that neither holds nor wants a slot earns no credit.
/// Between two users that need slots all the time the difference of slot time ÷ weight stays below the sum of both users'
/// longest batch ÷ weight, times the number of slots + 1. Every user that wants a slot gets one: once users with less
/// slot time ÷ weight have caught up, each other user gets a slot before it at most once.
#[derive(Debug, Clone)]
pub struct SlotShare<K> {
    slots: u32,
    running: u32,
    /// Latest start tag of all grants.
    virtual_time: u64,
    grants: u64,
    /// Latest instant at which a slot was to be granted, microseconds.
    now_us: u64,
    users: Vec<User<K>>,
}

/// Batch that a user would send if it had a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextBatch {
    /// Expected time of the batch, microseconds; 0 where that is not known.
    pub expected_us: u64,
    /// Instant until which the batch can wait, microseconds; 0: it cannot wait, or gains nothing by waiting.
    pub start_by_us: u64,
}

impl NextBatch {
    /// Returns the next batch of a queue with `rows` waiting rows. A batch that is full gains nothing by waiting; any
    /// other can wait for as long as its earliest deadline allows.
    pub fn of_queue(rows: u64, earliest_deadline_us: Option<u64>, lane: &Lane) -> Self {
        let is_full = rows >= u64::from(lane.limit_rows);
        let rows = u32::try_from(rows).unwrap_or(u32::MAX).min(lane.limit_rows);
        let (expected_us, p95_us) = lane.curve.map_or((0, 0), |curve| (curve.us(rows), curve.p95_us(rows)));
        let latest_us = earliest_deadline_us.unwrap_or(crate::NO_DEADLINE).saturating_sub(p95_us);
        Self { expected_us, start_by_us: if is_full { 0 } else { latest_us } }
    }
}

#[derive(Debug, Clone)]
struct User<K> {
    key: K,
    weight: u32,
    wants: bool,
    running: u32,
    next: NextBatch,
    /// Time of the user's newest batch, microseconds; 0 before the first.
    took_us: u64,
    /// Whether the user needed its newest grant.
    needed: bool,
    /// Finish tag of the user's newest grant.
    finish: u64,
    /// Number of the user's newest grant: the user with the lowest number has waited for a turn for longest.
    newest: u64,
    /// Slot time that the user used lately, microseconds.
    lately_us: f64,
}

impl<K> User<K> {
    fn new(key: K) -> Self {
        Self {
            key,
            weight: 1,
            wants: false,
            running: 0,
            next: NextBatch { expected_us: 0, start_by_us: 0 },
            took_us: 0,
            needed: false,
            finish: 0,
            newest: 0,
            lately_us: 0.0,
        }
    }

    /// Returns the slot time that a turn of this user takes. The expected time dates from when the user began to wait,
    /// and more rows may have arrived since; so it is at least that of the last batch.
    fn turn_us(&self) -> u64 {
        self.next.expected_us.max(self.took_us)
    }

    /// Returns the user's place by share: least slot time ÷ weight first, among equals the one that has waited longest.
    fn place(&self) -> (u64, u64) {
        (self.finish, self.newest)
    }
}

impl<K: Copy + Eq> SlotShare<K> {
    /// Creates `slots` free slots without users.
    pub fn new(slots: u32) -> Self {
        Self { slots, running: 0, virtual_time: 0, grants: 0, now_us: 0, users: Vec::new() }
    }

    /// Sets the number of slots. With fewer slots, batches that run end first.
    pub fn set_slots(&mut self, slots: u32) {
        self.slots = slots;
    }

    /// Returns the number of slots.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// Returns the number of granted slots.
    pub fn running(&self) -> u32 {
        self.running
    }

    /// Returns the number of free slots.
    pub fn free(&self) -> u32 {
        self.slots.saturating_sub(self.running)
    }

    /// Notes that a user wants one slot for this batch. Weight 0 counts as 1. Call it before giving a slot back, where
    /// there is more to do: a user that neither holds nor wants a slot is idle, and is not compensated for time that it
    /// was charged too much.
    pub fn want(&mut self, key: K, weight: u32, next: NextBatch) {
        let index = self.users.iter().position(|user| user.key == key).unwrap_or_else(|| {
            self.users.push(User::new(key));
            self.users.len() - 1
        });
        let user = &mut self.users[index];
        if !user.wants && user.running == 0 {
            user.finish = user.finish.max(self.virtual_time);
        }
        (user.weight, user.next, user.wants) = (weight.max(1), next, true);
    }

    /// Notes that a user wants no slot any more.
    pub fn withdraw(&mut self, key: K) {
        if let Some(user) = self.user(key) {
            user.wants = false;
        }
    }

    /// Forgets a user. Slots that were granted to it have to be given back as well.
    pub fn leave(&mut self, key: K) {
        self.withdraw(key);
        self.users.retain(|user| user.key != key || user.running > 0);
    }

    /// Grants a free slot to the next user, which then wants none until `want` is called again. Returns the user
    /// and the time that it was charged, to be passed to [`SlotShare::give_back`]; `None` where no slot is free or
    /// wanted.
    pub fn grant(&mut self, now_us: u64) -> Option<(K, u64)> {
        self.now_us = self.now_us.max(now_us);
        if self.free() == 0 {
            return None;
        }
        let wanting = || self.users.iter().enumerate().filter(|(_, user)| user.wants);
        let by_share = wanting().filter(|(_, user)| self.needs(user)).map(|(_, user)| user.place()).min();
        // The user that is next by share and those that have had no more slot time. Where no user needs a slot: all.
        let entitled = wanting().filter(|(_, user)| by_share.is_none_or(|place| user.place() <= place));
        let (index, _) = entitled.min_by_key(|(_, user)| (user.newest, user.finish))?;
        let needed = self.needs(&self.users[index]);
        let (virtual_time, user) = (self.virtual_time, &mut self.users[index]);
        // Slot time that a user did not need is not saved up: neither by the user that takes its turn now, nor (below)
        // by those that let it go first.
        let start = if needed { user.finish } else { user.finish.max(virtual_time) };
        self.grants += 1;
        user.finish = start.saturating_add(virtual_of(user.next.expected_us, user.weight));
        (user.wants, user.needed, user.newest) = (false, needed, self.grants);
        user.running += 1;
        let granted = (user.key, user.next.expected_us);
        self.running += 1;
        self.virtual_time = virtual_time.max(start);
        for passed in self.users.iter_mut().filter(|user| user.wants) {
            passed.finish = passed.finish.max(start);
        }
        Some(granted)
    }

    /// Takes back a granted slot that was used for `used_us`; `charged_us` is the time that [`SlotShare::grant`]
    /// returned.
    pub fn give_back(&mut self, key: K, charged_us: u64, used_us: u64) {
        if let Some(user) = self.user(key).filter(|user| user.running > 0) {
            user.running -= 1;
            user.lately_us += used_us as f64;
            if used_us > 0 {
                user.took_us = used_us;
            }
            user.finish = (user.finish.saturating_add(virtual_of(used_us, user.weight)))
                .saturating_sub(virtual_of(charged_us, user.weight));
            self.running -= 1;
            self.users.iter_mut().for_each(|user| user.lately_us *= 1.0 - NEWS);
        }
    }

    /// Returns whether a user needs a slot now: its batch gains nothing by waiting, or would be late after a turn of
    /// all others.
    fn needs(&self, user: &User<K>) -> bool {
        let others = self.users.iter().filter(|other| other.wants && other.key != user.key);
        let round_us = others.map(User::turn_us).fold(0, u64::saturating_add);
        user.next.start_by_us <= self.now_us.saturating_add(round_us)
    }

    fn user(&mut self, key: K) -> Option<&mut User<K>> {
        self.users.iter_mut().find(|user| user.key == key)
    }
}

fn virtual_of(us: u64, weight: u32) -> u64 {
    us.saturating_mul(SCALE) / u64::from(weight)
}
