//! Slots of one model server, shared fairly between the queues (models) that use it.

mod foresight;
#[cfg(test)]
mod tests;

use crate::Lane;

/// Virtual microseconds of one microsecond at weight 1.
const SCALE: u64 = 1024;
/// Weight of one batch in what is remembered of who used the slots: half after fourteen batches.
const NEWS: f64 = 0.05;

/// Grants slots to users: in turn while everybody can wait for a turn, by fair share where somebody cannot.
///
/// - A user *needs* a slot now where a full batch waits, or where what it has would be late if all others that want
///   a slot had theirs first.
/// - Among those that need one the next is by start-time fair queueing with depth, SFQ(D): Goyal, Vin and Cheng,
///   SIGCOMM'96, for more than one slot at a time Jin, Chase and Kaur, SIGMETRICS'04. What is shared is *slot time*
///   (a batch of one model may take ten times that of another), in proportion to the users' weights. Each grant is
///   charged with its expected time at once and corrected when its real time is known.
/// - Who has had no more than that one, and can wait, takes turns with it: whoever has had none for longest is next.
///
/// Why turns: a batch of a few rows takes nearly as long as one of many. By share alone, a model that sends little
/// would fill its part of the time with tiny batches while another one, that needs more than its own part and could
/// have it, starves. So the share bounds what a flood takes, and gives nobody slots that its objective does not ask
/// for.
///
/// A slot is never kept free while anybody wants it, and time in which a user has and wants nothing earns it
/// nothing. Between two users that need slots all the time the difference of slot time ÷ weight stays below the sum
/// of both users' longest batch ÷ weight, times the number of slots + 1. Whoever wants a slot gets one: once those
/// with less slot time ÷ weight have caught up, each other user goes before it at most once.
#[derive(Debug, Clone)]
pub struct SlotShare<K> {
    slots: u32,
    running: u32,
    /// Latest start tag of all grants.
    virtual_time: u64,
    grants: u64,
    /// When slots were last granted.
    now_us: u64,
    users: Vec<User<K>>,
}

/// The batch that a user would send if it had a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextBatch {
    /// How long it is expected to take, microseconds; 0 where that is not known.
    pub expected_us: u64,
    /// Until when it can wait, microseconds; 0: it cannot, or gains nothing by it.
    pub start_by_us: u64,
}

impl NextBatch {
    /// Of a queue with so many rows. A batch that is full gains nothing by waiting; any other can wait for as long as
    /// its earliest deadline allows.
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
    /// Time of its newest batch.
    took_us: u64,
    /// Whether it needed its newest grant.
    needed: bool,
    /// Finish tag of its newest grant.
    finish: u64,
    /// Number of its newest grant: the user with the lowest has waited for a turn for longest.
    newest: u64,
    /// Slot time that it used lately.
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

    /// What a turn of it costs the others. What it wants was said when it began to wait; more has come since.
    fn turn_us(&self) -> u64 {
        self.next.expected_us.max(self.took_us)
    }

    /// Place by share: least slot time ÷ weight first, among equals whoever has waited longest.
    fn place(&self) -> (u64, u64) {
        (self.finish, self.newest)
    }
}

impl<K: Copy + Eq> SlotShare<K> {
    /// Nobody uses these slots yet.
    pub fn new(slots: u32) -> Self {
        Self { slots, running: 0, virtual_time: 0, grants: 0, now_us: 0, users: Vec::new() }
    }

    /// From now on there are so many; with fewer, what runs ends first.
    pub fn set_slots(&mut self, slots: u32) {
        self.slots = slots;
    }

    /// How many there are.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// How many are granted.
    pub fn running(&self) -> u32 {
        self.running
    }

    /// How many are free.
    pub fn free(&self) -> u32 {
        self.slots.saturating_sub(self.running)
    }

    /// A user wants one slot for this batch. Weight 0 counts as 1. Say it before giving a slot back, where there is
    /// more to do: a user that neither holds nor wants one is idle, and forgoes what it was charged too much.
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

    /// A user wants none any more.
    pub fn withdraw(&mut self, key: K) {
        if let Some(user) = self.user(key) {
            user.wants = false;
        }
    }

    /// A user is gone; what it was granted has to be given back as well.
    pub fn leave(&mut self, key: K) {
        self.withdraw(key);
        self.users.retain(|user| user.key != key || user.running > 0);
    }

    /// Grants a free slot to whoever is next; it then wants none until it says so again. Returns the user and the
    /// time that it was charged with, to be given to [`SlotShare::give_back`].
    pub fn grant(&mut self, now_us: u64) -> Option<(K, u64)> {
        self.now_us = self.now_us.max(now_us);
        if self.free() == 0 {
            return None;
        }
        let wanting = || self.users.iter().enumerate().filter(|(_, user)| user.wants);
        let by_share = wanting().filter(|(_, user)| self.needs(user)).map(|(_, user)| user.place()).min();
        // It and those that have had no more than it. Where nobody needs a slot: all.
        let entitled = wanting().filter(|(_, user)| by_share.is_none_or(|place| user.place() <= place));
        let (index, _) = entitled.min_by_key(|(_, user)| (user.newest, user.finish))?;
        let needed = self.needs(&self.users[index]);
        let (virtual_time, user) = (self.virtual_time, &mut self.users[index]);
        // What was not needed is not saved up: neither by who takes its turn now, nor by who let it pass below.
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

    /// A granted slot is free again, after `used_us`; `charged_us` is what [`SlotShare::grant`] said.
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

    /// Whether what a user wants a slot for gains nothing by waiting, or would be late after a turn of all others.
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
