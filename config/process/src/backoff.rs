//! Growing pauses between attempts, with jitter.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Largest part of a pause that jitter takes away.
const MOST_JITTER: f64 = 0.25;

/// Pauses that double from a first to a longest one. Jitter shortens a pause, never lengthens it, so the longest pause
/// is a bound. A pure state machine: the caller passes the jitter, in production that of [`jitter`].
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Creates a backoff whose pauses double from `first` to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first.min(longest) }
    }

    /// Returns the pause before the next attempt, and doubles the one after it. `jitter` is between 0, which leaves the
    /// pause as it is, and 1, which shortens it by a quarter.
    pub fn pause(&mut self, jitter: f64) -> Duration {
        let pause = self.next;
        self.next = pause.saturating_mul(2).min(self.longest);
        pause.mul_f64(1.0 - MOST_JITTER * jitter.clamp(0.0, 1.0))
    }

    /// Starts again with the first pause, because an attempt has succeeded.
    pub fn reset(&mut self) {
        self.next = self.first.min(self.longest);
    }
}

/// Returns a random number from 0 to 1 for [`Backoff::pause`], so that programs that fail together do not try again
/// together. It is not for secrets.
pub fn jitter() -> f64 {
    // Each `RandomState` has other keys, which the operating system seeds.
    let bits = RandomState::new().hash_one(0_u8) as u32;
    f64::from(bits) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew_after_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(350));
        let pauses: Vec<_> = (0..4).map(|_| backoff.pause(0.0).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 350, 350]);
        backoff.reset();
        assert_eq!(backoff.pause(0.0).as_millis(), 100);
    }

    #[test]
    fn jitter_shortens_a_pause_by_a_quarter_at_most_and_leaves_its_growth_alone() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        assert_eq!(backoff.pause(1.0).as_millis(), 75);
        assert_eq!(backoff.pause(0.0).as_millis(), 200);
        let drawn: Vec<f64> = (0..100).map(|_| jitter()).collect();
        assert!(drawn.iter().all(|jitter| (0.0..=1.0).contains(jitter)), "{drawn:?}");
        assert!(drawn.windows(2).any(|pair| pair[0] != pair[1]), "{drawn:?}");
    }
}
