//! Detects that something unknown sets a target's scale back after each of our changes (pure).
//!
//! A person who scales by hand does so once. An autoscaler without a known object, or a tool that applies a
//! manifest with `replicas`, does so every time; then one try in each pause is enough to notice that it is over.

use sluice_scaling_policy::{Hold, HoldReason};

use crate::clock::timestamp;

/// Number of reverted changes from which on the scale is contested.
const REVERSALS: usize = 3;
/// Time within which these have to happen, milliseconds. After as long without another one the contest is over.
const WITHIN_MS: u64 = 10 * 60_000;
/// First pause, milliseconds; each further reversal doubles it.
const PAUSE_MS: u64 = 60_000;
/// Maximum doublings of the pause: 16 minutes.
const MOST_DOUBLINGS: u32 = 4;

/// History of one target's scale.
#[derive(Debug, Default)]
pub(crate) struct Contest {
    /// Replicas that were written here last; `None` = others have changed them since, or none were written.
    written: Option<u32>,
    /// Times at which changes were reverted, milliseconds, oldest first, at most [`REVERSALS`].
    reversals_ms: Vec<u64>,
    /// Number of pauses in this contest.
    pauses: u32,
    /// End of the pause, milliseconds, and its explanation; `None` = no pause.
    pause: Option<(u64, String)>,
}

impl Contest {
    /// Compares the replicas that are asked for now with those that were written.
    pub(crate) fn found(&mut self, now_ms: u64, asked: u32) {
        self.reversals_ms.retain(|at_ms| now_ms.saturating_sub(*at_ms) <= WITHIN_MS);
        if self.pause.as_ref().is_some_and(|(until_ms, _)| now_ms >= until_ms.saturating_add(WITHIN_MS)) {
            (self.pauses, self.pause) = (0, None);
        }
        let Some(written) = self.written.take_if(|written| *written != asked) else { return };
        self.reversals_ms.push(now_ms);
        let excess = self.reversals_ms.len().saturating_sub(REVERSALS);
        self.reversals_ms.drain(..excess);
        if self.pauses == 0 && self.reversals_ms.len() < REVERSALS {
            return;
        }
        let until_ms = now_ms + (PAUSE_MS << self.pauses.min(MOST_DOUBLINGS));
        self.pauses = self.pauses.saturating_add(1);
        let message = format!(
            "somebody else sets the scale back after each change: it was set to {written} here, and then to {asked} \
             by another; nothing is written before {}. Look for another autoscaler, or for a tool that applies \
             spec.replicas from a manifest: kubectl get --show-managed-fields -o yaml names who writes it",
            timestamp(until_ms)
        );
        self.pause = Some((until_ms, message));
    }

    /// Remembers replicas that were written here.
    pub(crate) fn wrote(&mut self, replicas: u32) {
        self.written = Some(replicas);
    }

    /// Forgets the last write after a failed change, which may have been made nevertheless.
    pub(crate) fn unsure(&mut self) {
        self.written = None;
    }

    /// Returns the hold during a pause.
    pub(crate) fn hold(&self, now_ms: u64) -> Option<Hold> {
        let (_, message) = self.pause.as_ref().filter(|(until_ms, _)| now_ms < *until_ms)?;
        Some(Hold { reason: HoldReason::ScaleContested, message: message.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    /// Writes 4 whenever it may, and finds 2 a second later. Returns when it wrote, in seconds.
    fn fight(contest: &mut Contest, seconds: std::ops::Range<u64>) -> Vec<u64> {
        let mut writes = Vec::new();
        for second in seconds {
            contest.found(second * 1000, 2);
            if contest.hold(second * 1000).is_none() {
                contest.wrote(4);
                writes.push(second);
            }
        }
        writes
    }

    #[test]
    fn three_changes_that_are_set_back_bring_a_pause_and_each_further_one_a_longer_one() {
        let mut contest = Contest::default();
        let writes = fight(&mut contest, 0..3600);
        assert_eq!(writes[..5], [0, 1, 2, 63, 184]);
        assert!(writes.len() <= 9, "one in each pause: {writes:?}");
        let pauses: Vec<u64> = writes[2..].windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(pauses.is_sorted(), "{pauses:?}");
        let hold = contest.hold(3_599_000).unwrap();
        assert!(hold.message.contains("set to 4 here") && hold.message.contains("to 2"), "{hold:?}");
    }

    #[test]
    fn a_person_who_scales_by_hand_now_and_then_is_no_fight() {
        let mut contest = Contest::default();
        for quarter in 0..20 {
            let at_ms = quarter * 15 * MINUTE;
            contest.wrote(4);
            contest.found(at_ms, 2);
            contest.found(at_ms + 1000, 3);
            assert_eq!(contest.hold(at_ms + 1000), None);
        }
    }

    #[test]
    fn changes_that_stay_and_changes_that_failed_are_no_reversals() {
        let mut contest = Contest::default();
        for second in 0..100 {
            contest.wrote(3);
            contest.found(second * 1000, 3);
            contest.unsure();
            contest.found(second * 1000, 5);
        }
        assert_eq!(contest.hold(100_000), None);
    }

    #[test]
    fn a_fight_is_over_after_a_while_without_a_reversal() {
        let mut contest = Contest::default();
        fight(&mut contest, 0..10);
        contest.found(12 * MINUTE, 2);
        assert_eq!(fight(&mut contest, 12 * 60..12 * 60 + 10).len(), 3, "three again before the first pause");
    }
}
