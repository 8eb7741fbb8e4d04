//! Predicts the slot time that a user of shared slots gets and waits for, as admission needs it.

use super::{SlotShare, User, virtual_of};

/// A user of less than this part of the slot time does not count.
const LEAST_PART: f64 = 0.01;

impl<K: Copy + Eq> SlotShare<K> {
    /// Returns the part of all slot time, 0 to 1, that a user gets while the users of slots, now or lately, go on using
    /// them: its fair part, or the part that it had lately, where that was more.
    pub fn part_of(&self, key: K) -> f64 {
        let own = self.users.iter().find(|user| user.key == key);
        let weight = own.map_or(1.0, |user| f64::from(user.weight));
        let others: f64 = self.others(key).map(|user| f64::from(user.weight)).sum();
        (weight / (weight + others)).max(own.map_or(0.0, |user| self.lately(user)))
    }

    /// Returns the slot time, microseconds, that others are granted before a user's next grant, while the users of
    /// slots, now or lately, go on using them with batches like their last ones: a turn of each user whose last grant
    /// is older, and the slot time by which users that need slots are behind this one.
    pub fn before_turn_of_us(&self, key: K) -> u64 {
        let own = self.users.iter().find(|user| user.key == key);
        let (start, newest) = own.map_or((self.virtual_time, 0), |user| (self.start(user), user.newest));
        let own_needs = own.is_some_and(|user| user.needed || self.presses(user));
        let before = self.others(key).map(|other| {
            let turn_us = other.turn_us();
            let in_turn = u64::from(other.newest < newest && self.takes_turns(other));
            let grants = match start.checked_sub(self.start(other)) {
                Some(lag) if self.presses(other) => {
                    lag.div_ceil(virtual_of(turn_us, other.weight).max(1)).max(in_turn)
                }
                // The other has had more, and is not served before a user that needs a slot.
                None if own_needs => 0,
                _ => in_turn,
            };
            grants.saturating_mul(turn_us)
        });
        before.fold(0, u64::saturating_add)
    }

    /// Returns whether a user takes part in the next turn: it wants a slot, or has had one in the last round. A user
    /// that sends rarely does not count while it wants nothing, however long its batches are.
    fn takes_turns(&self, user: &User<K>) -> bool {
        let round = self.users.len() as u64;
        user.wants || self.grants - user.newest < round
    }

    /// Returns whether a user needs a slot, or, where it wants none now, needed the last one.
    fn presses(&self, user: &User<K>) -> bool {
        if user.wants { self.needs(user) } else { user.needed }
    }

    /// Returns the start tag of a user's next grant, if the user wanted one now.
    fn start(&self, user: &User<K>) -> u64 {
        if user.wants || user.running > 0 { user.finish } else { user.finish.max(self.virtual_time) }
    }

    /// Returns a user's part of the slot time that was used lately, 0 to 1.
    fn lately(&self, user: &User<K>) -> f64 {
        let all_us: f64 = self.users.iter().map(|user| user.lately_us).sum();
        if all_us > 0.0 { user.lately_us / all_us } else { 0.0 }
    }

    /// Returns all other users that use slots, now or lately.
    fn others(&self, key: K) -> impl Iterator<Item = &User<K>> {
        let uses = |user: &User<K>| user.wants || user.running > 0 || self.lately(user) > LEAST_PART;
        self.users.iter().filter(move |user| user.key != key && uses(user))
    }
}
