//! Decides when to log why a model server is not ready, and when to try again. A reason is logged once, and again from
//! time to time while it persists; attempts become less and less frequent.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

/// Pause after the first failed attempt; each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause between two attempts. A model that is loaded meanwhile goes unnoticed for as long.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Time after which a persisting reason is logged for the second time; each further interval is twice as long.
const SAID_AGAIN: Duration = Duration::from_secs(10);
/// Longest interval between two log lines about a persisting reason.
const SAID_AT_LEAST: Duration = Duration::from_secs(300);

/// Why one model server is not ready, and the pauses between attempts.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    standing: Option<Standing>,
    pauses: Option<ExponentialBackoff>,
}

#[derive(Debug)]
struct Standing {
    reason: String,
    since: Instant,
    said: Instant,
    /// Time from the last log line to the next.
    silence: Duration,
}

impl Trouble {
    /// Records the reason why an attempt has failed. Returns for how long the reason has persisted if it should be
    /// logged now, else `None`.
    pub(super) fn stands(&mut self, reason: &str, now: Instant) -> Option<Duration> {
        match &mut self.standing {
            Some(standing) if standing.reason == reason => {
                if now.duration_since(standing.said) < standing.silence {
                    return None;
                }
                standing.said = now;
                standing.silence = (standing.silence * 2).min(SAID_AT_LEAST);
                Some(now.duration_since(standing.since))
            }
            _ => {
                let reason = reason.to_owned();
                self.standing = Some(Standing { reason, since: now, said: now, silence: SAID_AGAIN });
                Some(Duration::ZERO)
            }
        }
    }

    /// Returns whether the last attempt has failed.
    pub(super) fn is_standing(&self) -> bool {
        self.standing.is_some()
    }

    /// Returns the pause until the next attempt, longer with each call.
    pub(super) fn pause(&mut self) -> Duration {
        let pauses = self.pauses.get_or_insert_with(|| {
            let pauses = ExponentialBuilder::new().with_min_delay(FIRST_PAUSE).with_max_delay(LONGEST_PAUSE);
            pauses.with_factor(2.0).without_max_times().build()
        });
        pauses.next().unwrap_or(LONGEST_PAUSE)
    }

    /// Starts again with the shortest pause, because there is another server.
    pub(super) fn begin_anew(&mut self) {
        self.pauses = None;
    }

    /// Notes success: forgets the reason and the pauses.
    pub(super) fn is_over(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reason_is_said_once_and_again_ever_less_often() {
        let (mut trouble, start) = (Trouble::default(), Instant::now());
        let mut said = Vec::new();
        for second in 0..3600 {
            if let Some(since) = trouble.stands("it is away", start + Duration::from_secs(second)) {
                said.push(since.as_secs());
            }
        }
        assert_eq!(said[..6], [0, 10, 30, 70, 150, 310]);
        assert!(said.windows(2).all(|pair| pair[1] - pair[0] <= 300));
        assert_eq!(trouble.stands("it is back, cold", start), Some(Duration::ZERO), "another one at once");
        trouble.is_over();
        assert_eq!(trouble.stands("it is back, cold", start), Some(Duration::ZERO));
    }

    #[test]
    fn attempts_come_ever_less_often_up_to_a_bound_and_begin_anew_with_another_server() {
        let mut trouble = Trouble::default();
        let pauses: Vec<u128> = (0..7).map(|_| trouble.pause().as_millis()).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 5000, 5000, 5000]);
        trouble.begin_anew();
        assert_eq!(trouble.pause(), FIRST_PAUSE);
    }
}
