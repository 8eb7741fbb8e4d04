//! Gives up answers that their clients do not take: those that have waited longest while the budget is full, and any
//! that has waited for `answerTimeoutMs`.

use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use sluice_config::metric_names::batcher as names;
use tokio_util::sync::CancellationToken;

use super::untaken::{Answers, Untaken};
use crate::settings::Live;

/// How long a client may pause while the budget is full, whatever others need: a lost packet comes again after a
/// fifth of a second.
pub const GRACE_US: u64 = 250_000;
/// How often it is looked for answers that were not taken in time, at least …
const LOOK: Duration = Duration::from_secs(1);
/// … and how often while the budget is full.
const LOOK_FULL: Duration = Duration::from_millis(20);
/// Turns of the runtime in which the task of an answer that was given up ends, as a rule.
const TURNS: usize = 64;

/// Why an answer is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GiveUpReason {
    /// Answers hold all the memory that they may, and it has waited longest.
    Full,
    /// Its client has taken nothing of it for too long.
    Timeout,
}

impl GiveUpReason {
    fn label(self) -> &'static str {
        match self {
            Self::Full => "answer_bytes",
            Self::Timeout => "answer_timeout",
        }
    }
}

/// An answer, as far as it decides what is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Since when its client takes nothing of what is there.
    pub stalled_since_us: u64,
    /// All of it was handed to the HTTP library: only the end of its connection frees what is left.
    pub is_rest: bool,
}

/// Which one is given up now, and why. Of those that have waited for too long the longest, at any time; while the
/// budget is full the longest that has waited at all. Rests come last: to free one costs a whole connection.
pub fn choose(
    candidates: &[Candidate],
    is_full: bool,
    now_us: u64,
    timeout_us: u64,
) -> Option<(usize, GiveUpReason)> {
    let longest = |is_rest: bool, at_least_us: u64| {
        candidates
            .iter()
            .enumerate()
            .filter(|(_, one)| {
                one.is_rest == is_rest && now_us.saturating_sub(one.stalled_since_us) >= at_least_us
            })
            .min_by_key(|(_, one)| one.stalled_since_us)
            .map(|(at, _)| at)
    };
    let late = longest(false, timeout_us).map(|at| (at, GiveUpReason::Timeout));
    let full = || {
        let longest = longest(false, GRACE_US).or_else(|| longest(true, GRACE_US));
        longest.filter(|_| is_full).map(|at| (at, GiveUpReason::Full))
    };
    late.or_else(full)
}

/// Gives up what has to be, until `end`.
pub async fn run(answers: Arc<Answers>, settings: Live, end: CancellationToken) {
    loop {
        let timeout_ms = settings.now().timeouts.answer_timeout_ms;
        let is_full = answers.budget.is_full();
        let pause =
            if is_full { LOOK_FULL } else { Duration::from_millis(timeout_ms / 4).clamp(LOOK_FULL, LOOK) };
        tokio::select! {
            () = end.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            () = answers.budget.full(), if !is_full => {}
        }
        let timeout_us = timeout_ms.saturating_mul(1000);
        while let Some((untaken, reason)) = next(&answers, timeout_us) {
            let is_useless = reason == GiveUpReason::Timeout
                && untaken.is_all_since(answers.now_us().saturating_sub(timeout_us));
            give_up(&untaken, reason, is_useless).await;
        }
    }
}

fn next(answers: &Answers, timeout_us: u64) -> Option<(Arc<Untaken>, GiveUpReason)> {
    let mut stalled = Vec::new();
    let mut candidates = Vec::new();
    for untaken in answers.all() {
        if let Some(stalled_since_us) = untaken.stalled_since_us()
            && !untaken.is_going()
        {
            candidates.push(Candidate { stalled_since_us, is_rest: untaken.is_rest() });
            stalled.push(untaken);
        }
    }
    let (at, reason) = choose(&candidates, answers.budget.is_full(), answers.now_us(), timeout_us)?;
    Some((stalled.swap_remove(at), reason))
}

/// Gives one up, with its connection where that is of no use without it, and waits until its memory is free: what is
/// free by then need not be taken from others.
async fn give_up(untaken: &Arc<Untaken>, reason: GiveUpReason, is_useless: bool) {
    counter!(names::ANSWERS_GIVEN_UP_TOTAL, "reason" => reason.label()).increment(1);
    tracing::debug!(reason = reason.label(), "An answer that its client does not take is given up.");
    if untaken.can_be_reset() && !is_useless {
        untaken.reset();
    } else {
        counter!(names::CONNECTIONS_CLOSED_TOTAL, "reason" => reason.label()).increment(1);
        untaken.close();
    }
    for _ in 0..TURNS {
        // One reference is the caller's.
        if Arc::strong_count(untaken) == 1 || !untaken.is_going() {
            break;
        }
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT_US: u64 = 60_000_000;
    const NOW_US: u64 = 100_000_000;

    fn stalled(for_us: u64, is_rest: bool) -> Candidate {
        Candidate { stalled_since_us: NOW_US - for_us, is_rest }
    }

    fn chosen(candidates: &[Candidate], is_full: bool) -> Option<(usize, GiveUpReason)> {
        choose(candidates, is_full, NOW_US, TIMEOUT_US)
    }

    #[test]
    fn while_there_is_room_only_what_was_not_taken_in_time_is_given_up() {
        let waiting = [stalled(1_000_000, false), stalled(59_000_000, false), stalled(90_000_000, true)];
        assert_eq!(chosen(&waiting, false), None, "a rest is small, and its connection may be of use");
        let late = [stalled(61_000_000, false), stalled(62_000_000, false)];
        assert_eq!(chosen(&late, false), Some((1, GiveUpReason::Timeout)));
    }

    #[test]
    fn while_there_is_none_the_longest_goes_first_and_nobody_who_has_just_taken_something() {
        let waiting = [stalled(GRACE_US, false), stalled(2_000_000, false), stalled(9_000_000, true)];
        assert_eq!(chosen(&waiting, true), Some((1, GiveUpReason::Full)));
        assert_eq!(chosen(&[stalled(GRACE_US - 1, false)], true), None);
        assert_eq!(
            chosen(&[stalled(GRACE_US - 1, false), stalled(GRACE_US, true)], true),
            Some((1, GiveUpReason::Full))
        );
    }
}
