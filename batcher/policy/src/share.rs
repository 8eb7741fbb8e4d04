//! Slots of one model server, shared fairly between the queues (models) that use it.

/// Virtual microseconds of one microsecond at weight 1.
const SCALE: u64 = 1024;
/// Weight of one batch in what is remembered of who used the slots: half after fourteen batches.
const NEWS: f64 = 0.05;
/// A user of less than this part of the slot time is none.
const LEAST_PART: f64 = 0.01;

/// Grants slots to users by start-time fair queueing with depth, SFQ(D): Goyal, Vin and Cheng, SIGCOMM'96, for more
/// than one at a time Jin, Chase and Kaur, SIGMETRICS'04.
///
/// What is shared is *slot time* (a batch of one model may take ten times that of another), in proportion to the
/// users' weights. Each grant is charged with its expected time at once and corrected when its real time is known.
/// A slot is never kept free while anybody wants it, and time in which a user wanted nothing earns it nothing.
/// Between two users that want slots all the time the difference of slot time ÷ weight stays below the sum of both
/// users' longest batch ÷ weight, times the number of slots + 1.
#[derive(Debug, Clone)]
pub struct SlotShare<K> {
    slots: u32,
    running: u32,
    /// Latest start tag of all grants.
    virtual_time: u64,
    grants: u64,
    users: Vec<User<K>>,
}

#[derive(Debug, Clone)]
struct User<K> {
    key: K,
    weight: u32,
    wants: bool,
    running: u32,
    expected_us: u64,
    /// Finish tag of its newest grant.
    finish: u64,
    /// Number of its newest grant: among equals the one that has waited longest is next.
    newest: u64,
    /// Slot time that it used lately.
    lately_us: f64,
}

impl<K: Copy + Eq> SlotShare<K> {
    /// Nobody uses these slots yet.
    pub fn new(slots: u32) -> Self {
        Self { slots, running: 0, virtual_time: 0, grants: 0, users: Vec::new() }
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

    /// A user wants one slot for a batch that is expected to take `expected_us`. Weight 0 counts as 1. Say it before
    /// giving a slot back, where there is more to do: a user that neither holds nor wants one is idle, and forgoes
    /// what it was charged too much.
    pub fn want(&mut self, key: K, weight: u32, expected_us: u64) {
        let index = self.users.iter().position(|user| user.key == key).unwrap_or_else(|| {
            self.users.push(User {
                key,
                weight: 1,
                wants: false,
                running: 0,
                expected_us: 0,
                finish: 0,
                newest: 0,
                lately_us: 0.0,
            });
            self.users.len() - 1
        });
        let user = &mut self.users[index];
        if !user.wants && user.running == 0 {
            user.finish = user.finish.max(self.virtual_time);
        }
        (user.weight, user.expected_us, user.wants) = (weight.max(1), expected_us, true);
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
    pub fn grant(&mut self) -> Option<(K, u64)> {
        if self.free() == 0 {
            return None;
        }
        let wanting = self.users.iter_mut().filter(|user| user.wants);
        let next = wanting.min_by_key(|user| (user.finish, user.newest))?;
        let start = next.finish;
        self.grants += 1;
        next.finish = start.saturating_add(virtual_of(next.expected_us, next.weight));
        (next.wants, next.newest) = (false, self.grants);
        next.running += 1;
        let granted = (next.key, next.expected_us);
        self.running += 1;
        self.virtual_time = self.virtual_time.max(start);
        Some(granted)
    }

    /// A granted slot is free again, after `used_us`; `charged_us` is what [`SlotShare::grant`] said.
    pub fn give_back(&mut self, key: K, charged_us: u64, used_us: u64) {
        if let Some(user) = self.user(key).filter(|user| user.running > 0) {
            user.running -= 1;
            user.lately_us += used_us as f64;
            user.finish = (user.finish.saturating_add(virtual_of(used_us, user.weight)))
                .saturating_sub(virtual_of(charged_us, user.weight));
            self.running -= 1;
            self.users.iter_mut().for_each(|user| user.lately_us *= 1.0 - NEWS);
        }
    }

    /// The part of all slot time, 0 to 1, that a user gets while those that use slots, now or lately, go on using them:
    /// its fair part, or what the others left to it lately, where that was more.
    pub fn part_of(&self, key: K) -> f64 {
        let own = self.users.iter().find(|user| user.key == key);
        let weight = own.map_or(1.0, |user| f64::from(user.weight));
        let others: f64 = self.others(key).map(|user| f64::from(user.weight)).sum();
        (weight / (weight + others)).max(own.map_or(0.0, |user| self.lately(user)))
    }

    /// Slot time, microseconds, that others are granted before a user's next grant, while those that use slots, now or
    /// lately, go on using them, with batches like the one that each expected last.
    pub fn before_turn_of_us(&self, key: K) -> u64 {
        let own = self.users.iter().find(|user| user.key == key);
        let (start, newest) = own.map_or((self.virtual_time, 0), |user| (self.start(user), user.newest));
        let before = self.others(key).map(|other| {
            let cost = virtual_of(other.expected_us, other.weight).max(1);
            let grants = match start.checked_sub(self.start(other)) {
                Some(0) => u64::from(other.newest < newest),
                Some(lag) => lag.div_ceil(cost),
                None => 0,
            };
            grants.saturating_mul(other.expected_us)
        });
        before.fold(0, u64::saturating_add)
    }

    /// Start tag of a user's next grant, if it wanted one now.
    fn start(&self, user: &User<K>) -> u64 {
        if user.wants || user.running > 0 { user.finish } else { user.finish.max(self.virtual_time) }
    }

    /// A user's part of the slot time that was used lately.
    fn lately(&self, user: &User<K>) -> f64 {
        let all_us: f64 = self.users.iter().map(|user| user.lately_us).sum();
        if all_us > 0.0 { user.lately_us / all_us } else { 0.0 }
    }

    /// All others that use slots, now or lately.
    fn others(&self, key: K) -> impl Iterator<Item = &User<K>> {
        let uses = |user: &User<K>| user.wants || user.running > 0 || self.lately(user) > LEAST_PART;
        self.users.iter().filter(move |user| user.key != key && uses(user))
    }

    fn user(&mut self, key: K) -> Option<&mut User<K>> {
        self.users.iter_mut().find(|user| user.key == key)
    }
}

fn virtual_of(us: u64, weight: u32) -> u64 {
    us.saturating_mul(SCALE) / u64::from(weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_alone_gets_every_slot_and_no_more() {
        let mut share = SlotShare::new(2);
        for _ in 0..2 {
            share.want('a', 1, 1000);
            assert_eq!(share.grant(), Some(('a', 1000)));
        }
        share.want('a', 1, 1000);
        assert_eq!(share.grant(), None);
        share.give_back('a', 1000, 900);
        assert_eq!(share.grant(), Some(('a', 1000)));
        assert!((share.part_of('a') - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_user_of_short_batches_runs_several_for_each_long_one() {
        let mut share = SlotShare::new(1);
        let mut order = String::new();
        for _ in 0..22 {
            share.want('s', 1, 10);
            share.want('l', 1, 100);
            let (key, charged_us) = share.grant().unwrap();
            share.give_back(key, charged_us, charged_us);
            order.push(key);
        }
        assert_eq!(order.matches('l').count(), 2, "{order}");
    }

    #[test]
    fn what_others_are_granted_before_a_users_turn_is_foreseen() {
        let mut share = SlotShare::new(1);
        share.want('a', 1, 1000);
        assert_eq!(share.before_turn_of_us('a'), 0, "nobody else is there");
        share.grant();
        share.want('b', 1, 300);
        // Four of 300 until b has had as much as a.
        assert_eq!(share.before_turn_of_us('a'), 4 * 300);
        assert_eq!(share.before_turn_of_us('b'), 0);
        share.want('a', 1, 1000);
        let mut foreseen_us = share.before_turn_of_us('a');
        share.give_back('a', 1000, 1000);
        loop {
            let (key, charged_us) = share.grant().unwrap();
            if key == 'a' {
                break;
            }
            share.want('b', 1, 300);
            share.give_back('b', charged_us, charged_us);
            foreseen_us -= charged_us;
        }
        assert_eq!(foreseen_us, 0);
    }

    #[test]
    fn time_without_demand_earns_nothing() {
        let mut share = SlotShare::new(1);
        for _ in 0..1000 {
            share.want('a', 1, 100);
            let (key, charged_us) = share.grant().unwrap();
            share.give_back(key, charged_us, charged_us);
        }
        let mut order = String::new();
        for _ in 0..20 {
            share.want('a', 1, 100);
            share.want('b', 1, 100);
            let (key, charged_us) = share.grant().unwrap();
            share.give_back(key, charged_us, charged_us);
            order.push(key);
        }
        assert_eq!(order.matches('b').count(), 10, "{order}");
    }

    #[test]
    fn a_slot_that_was_not_used_costs_nothing() {
        let mut share = SlotShare::new(1);
        for _ in 0..5 {
            share.want('a', 1, 1000);
            assert_eq!(share.grant(), Some(('a', 1000)));
            share.give_back('a', 1000, 0);
        }
        share.want('b', 1, 10);
        share.want('a', 1, 10);
        share.grant();
        share.give_back('b', 10, 10);
        assert_eq!(share.grant().map(|(key, _)| key), Some('a'));
    }

    #[test]
    fn whoever_leaves_is_forgotten_once_it_holds_nothing() {
        let mut share = SlotShare::new(1);
        share.want('a', 3, 10);
        share.grant();
        share.want('b', 1, 10);
        assert!((share.part_of('b') - 0.25).abs() < f64::EPSILON);
        share.leave('a');
        assert_eq!(share.grant(), None, "its slot is still out");
        share.give_back('a', 10, 10);
        share.leave('a');
        assert_eq!(share.grant(), Some(('b', 10)));
    }
}
