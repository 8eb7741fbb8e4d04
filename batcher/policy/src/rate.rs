//! Measures how fast rows arrive.

use crate::US_PER_SECOND;
use crate::window::{BUCKETS, Ring};

/// Arrival rate of rows over a sliding window.
#[derive(Debug, Clone)]
pub struct ArrivalRate {
    rows: Ring<u64>,
    since_us: u64,
}

impl ArrivalRate {
    /// Creates a window of `window_us` microseconds (at least 1 ms), starting at `now_us`.
    pub fn new(window_us: u64, now_us: u64) -> Self {
        Self { rows: Ring::new(window_us, now_us), since_us: now_us }
    }

    /// Notes the arrival of a request of `rows` rows.
    pub fn arrived(&mut self, at_us: u64, rows: u32) {
        let bucket = self.rows.at(at_us);
        *bucket = bucket.saturating_add(u64::from(rows));
    }

    /// Returns the rows per second over the window, or since the start where that is shorter; 0 before a bucket (a
    /// sixty-fourth of the window) has passed, because the rate of a single arrival could be any number.
    pub fn rows_per_second(&mut self, now_us: u64) -> f64 {
        self.rows.at(now_us);
        let oldest_us =
            self.rows.newest.saturating_sub(BUCKETS as u64 - 1).saturating_mul(self.rows.bucket_us);
        let span_us = now_us.saturating_sub(oldest_us.max(self.since_us));
        if span_us < self.rows.bucket_us {
            return 0.0;
        }
        let rows = self.rows.buckets.iter().fold(0u64, |all, rows| all.saturating_add(*rows));
        rows as f64 * US_PER_SECOND / span_us as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn the_rate_is_that_of_the_window() {
        let start_us = 7 * SECOND + 123;
        let mut rate = ArrivalRate::new(SECOND, start_us);
        assert!(rate.rows_per_second(start_us) == 0.0);
        for step in 0..500 {
            rate.arrived(start_us + step * 1000, 2);
        }
        let half_filled = rate.rows_per_second(start_us + SECOND / 2);
        assert!((half_filled - 2000.0).abs() < 10.0, "{half_filled}");
        for step in 500..3000 {
            rate.arrived(start_us + step * 1000, if step < 1500 { 2 } else { 1 });
        }
        let newest = rate.rows_per_second(start_us + 3 * SECOND);
        assert!((newest - 1000.0).abs() < 10.0, "{newest}");
        assert!(rate.rows_per_second(start_us + 5 * SECOND) == 0.0, "silence");
    }

    #[test]
    fn extreme_values_do_not_overflow() {
        let mut rate = ArrivalRate::new(u64::MAX, 0);
        rate.arrived(u64::MAX, u32::MAX);
        assert!(rate.rows_per_second(u64::MAX).is_finite());
    }
}
