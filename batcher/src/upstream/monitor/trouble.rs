//! Why a model server is not ready: when to say it, and when to try again. Said once per reason, and again from time to
//! time while it stands; tried again ever less often.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

/// Pause after the first attempt that failed; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause between two attempts: so long may a model that has been loaded meanwhile stay unnoticed.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// When a reason that stands is said for the second time; each further time after twice as long.
const SAID_AGAIN: Duration = Duration::from_secs(10);
/// Longest time for which a reason that stands is not said.
const SAID_AT_LEAST: Duration = Duration::from_secs(300);

/// What stands in the way of one model server.
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
    /// From when it was said to when it is said again.
    silence: Duration,
}

impl Trouble {
    /// Takes the reason in why an attempt has failed. Tells for how long it has stood, where it is to be said now.
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

    /// Whether the last attempt has failed.
    pub(super) fn is_standing(&self) -> bool {
        self.standing.is_some()
    }

    /// How long to wait until the next attempt.
    pub(super) fn pause(&mut self) -> Duration {
        let pauses = self.pauses.get_or_insert_with(|| {
            let pauses = ExponentialBuilder::new().with_min_delay(FIRST_PAUSE).with_max_delay(LONGEST_PAUSE);
            pauses.with_factor(2.0).without_max_times().build()
        });
        pauses.next().unwrap_or(LONGEST_PAUSE)
    }

    /// There is another server: attempts begin anew.
    pub(super) fn begin_anew(&mut self) {
        self.pauses = None;
    }

    /// All is well.
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
