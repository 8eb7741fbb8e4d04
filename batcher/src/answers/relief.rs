//! Gives up answers that their clients do not take: any whose client has taken nothing for `answerTimeoutMs`, and,
//! while the budget is full, those that have waited longest.

use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use sluice_config::metric_names::batcher as names;
use tokio_util::sync::CancellationToken;

use super::untaken::{Answers, Untaken};
use crate::settings::Live;

/// Time for which a client may pause even while the budget is full, in microseconds: the retransmission of a lost
/// packet takes a fifth of a second.
pub const GRACE_US: u64 = 250_000;
/// Longest pause between two looks for answers that were not taken in time.
const LOOK: Duration = Duration::from_secs(1);
/// Pause between two looks while the budget is full; also the shortest pause.
const LOOK_FULL: Duration = Duration::from_millis(20);
/// Maximum turns of the runtime to wait for the task of an answer that was given up to end.
const TURNS: usize = 64;

/// Why an answer is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GiveUpReason {
    /// The budget is full, and this answer has waited longest.
    Full,
    /// The client has taken nothing of the answer for `answerTimeoutMs`.
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

/// What `choose` needs to know about an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Time since which the client has taken nothing of what is there, in microseconds of the process's clock.
    pub stalled_since_us: u64,
    /// Whether all of it was handed to the HTTP library: only closing the connection frees what is left.
    pub is_rest: bool,
}

/// Chooses the answer that is given up now; returns its index and the reason, or `None` if all may stay. At any time it
/// is the one that has waited longest beyond the timeout; while the budget is full, the one that has waited longest
/// beyond the grace period. Rests come last, because freeing one costs a whole connection.
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

/// Gives up answers as `choose` decides, until `end` is cancelled.
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

/// Gives up one answer, and closes its connection where that cannot be avoided or serves nothing else. Waits until the
/// memory is free, so that no more answers are given up than necessary.
async fn give_up(untaken: &Arc<Untaken>, reason: GiveUpReason, is_useless: bool) {
    counter!(names::ANSWERS_GIVEN_UP_TOTAL, "reason" => reason.label()).increment(1);
    tracing::debug!(reason = reason.label(), "Gave up an answer that its client does not take.");
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
