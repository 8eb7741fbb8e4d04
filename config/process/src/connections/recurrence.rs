//! Limits log lines about something that may happen thousands of times a second: one line in each period.

use std::time::Duration;

/// Period in which there is at most one line.
const PERIOD: Duration = Duration::from_secs(10);

/// Counts what has happened since the last report. Pure: times are durations since the process began to count.
#[derive(Debug, Default)]
pub struct Recurrence {
    reported_at: Option<Duration>,
    unreported: u64,
}

impl Recurrence {
    /// Notes one occurrence; returns how many to report now, this one included, or `None` where it is too early.
    pub fn note(&mut self, now: Duration) -> Option<u64> {
        self.unreported += 1;
        if self.reported_at.is_some_and(|at| now < at + PERIOD) {
            return None;
        }
        self.reported_at = Some(now);
        Some(std::mem::take(&mut self.unreported))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_reported_at_once_and_the_others_together_later() {
        let mut recurrence = Recurrence::default();
        let at = Duration::from_millis;
        assert_eq!(recurrence.note(at(5)), Some(1));
        assert!((6..10_005).all(|ms| recurrence.note(at(ms)).is_none()));
        assert_eq!(recurrence.note(at(10_005)), Some(10_000));
        assert_eq!(recurrence.note(at(10_006)), None);
    }
}
