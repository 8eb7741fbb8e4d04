//! Remembers senders of requests that break, stall or overtax calls: for a while their requests share no batch with
//! others'.

use std::collections::HashMap;
use std::hash::Hash;

/// Time for which an offender is kept apart after the first offence, microseconds.
const FIRST_TERM_US: u64 = 60_000_000;
/// Longest time for which an offender is kept apart, microseconds.
const LONGEST_TERM_US: u64 = 600_000_000;

/// Bounded memory of offenders. An offender is kept apart for a term. Each further offence within twice the last term
/// makes the next term twice as long, up to ten minutes. When the memory is full, the offender whose term ends first is
/// forgotten.
#[derive(Debug)]
pub struct Offenders<K> {
    terms: HashMap<K, Term>,
    most: usize,
}

#[derive(Debug, Clone, Copy)]
struct Term {
    until_us: u64,
    length_us: u64,
}

impl Term {
    /// Returns whether another offence now counts as a repeated one.
    fn is_remembered(&self, now_us: u64) -> bool {
        now_us < self.until_us.saturating_add(self.length_us)
    }
}

impl<K: Eq + Hash + Copy> Offenders<K> {
    /// Creates an empty memory for at most `most` offenders (at least 1).
    pub fn new(most: usize) -> Self {
        Self { terms: HashMap::new(), most: most.max(1) }
    }

    /// Notes an offence: from now on, for a term, this offender's requests are sent apart from those of others.
    pub fn convict(&mut self, who: K, now_us: u64) {
        self.terms.retain(|_, term| term.is_remembered(now_us));
        let before = self.terms.get(&who).map(|term| term.length_us);
        if before.is_none() && self.terms.len() >= self.most {
            let first = self.terms.iter().min_by_key(|(_, term)| term.until_us).map(|(who, _)| *who);
            first.map(|first| self.terms.remove(&first));
        }
        let length_us =
            before.map_or(FIRST_TERM_US, |length_us| length_us.saturating_mul(2).min(LONGEST_TERM_US));
        self.terms.insert(who, Term { until_us: now_us.saturating_add(length_us), length_us });
    }

    /// Returns whether the requests of this sender are to be sent apart now.
    pub fn is_apart(&self, who: &K, now_us: u64) -> bool {
        self.terms.get(who).is_some_and(|term| now_us < term.until_us)
    }

    /// Returns the number of offenders that are remembered.
    pub fn len(&self) -> usize {
        self.terms.len()
    }

    /// Returns whether no offender is remembered.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }
}
