//! What one reporting interval says: counts by fate, percentiles.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::outcome::Outcome;

/// Counts of requests by outcome. Every request is in exactly one of answered, rejected, failed and lost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Correct answers.
    pub answered: u64,
    /// Correct answers within the objective; all of them if there is no objective.
    pub attained: u64,
    /// Responses 429 or RESOURCE_EXHAUSTED.
    pub rejected: u64,
    /// Other errors.
    pub failed: u64,
    /// Requests without an answer, or with a wrong one.
    pub lost: u64,
}

impl Counts {
    /// Returns the number of requests whose outcome is known.
    pub fn requests(&self) -> u64 {
        self.answered + self.rejected + self.failed + self.lost
    }

    pub(super) fn add(&mut self, outcome: &Outcome, attained: bool) {
        match outcome {
            Outcome::Answered => {
                self.answered += 1;
                self.attained += u64::from(attained);
            }
            Outcome::Rejected => self.rejected += 1,
            Outcome::Failed(_) => self.failed += 1,
            Outcome::Lost(_) => self.lost += 1,
        }
    }
}

/// Statistics of one reporting interval. An answer counts in the interval in which it arrived.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// End of the interval, in seconds from the start of the run.
    pub t_s: f64,
    /// Length in seconds.
    pub length_s: f64,
    /// Requests sent in the interval.
    pub sent: u64,
    /// Requests whose outcome became known in the interval.
    #[serde(flatten)]
    pub counts: Counts,
    /// Requests in flight at the end of the interval.
    pub in_flight: u64,
    /// Median latency of correct answers, counted from the intended send time.
    pub p50_ms: Option<f64>,
    /// 99th percentile.
    pub p99_ms: Option<f64>,
    /// Longest.
    pub max_ms: Option<f64>,
    /// 99th percentile of the send lag.
    pub send_lag_p99_ms: Option<f64>,
}

impl Interval {
    /// Merges the following interval into this one. Counts add up; of each percentile the larger one is kept.
    pub fn absorb(&mut self, rest: &Interval) {
        self.t_s = rest.t_s;
        self.length_s += rest.length_s;
        self.sent += rest.sent;
        self.counts.answered += rest.counts.answered;
        self.counts.attained += rest.counts.attained;
        self.counts.rejected += rest.counts.rejected;
        self.counts.failed += rest.counts.failed;
        self.counts.lost += rest.counts.lost;
        self.in_flight = rest.in_flight;
        self.p50_ms = larger(self.p50_ms, rest.p50_ms);
        self.p99_ms = larger(self.p99_ms, rest.p99_ms);
        self.max_ms = larger(self.max_ms, rest.max_ms);
        self.send_lag_p99_ms = larger(self.send_lag_p99_ms, rest.send_lag_p99_ms);
    }
}

fn larger(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    }
}

/// Percentiles of a time, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // The names say it.
pub struct Quantiles {
    pub mean_ms: f64,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
    pub p99_9_ms: f64,
    pub max_ms: f64,
}

impl Quantiles {
    /// Computes the percentiles of a histogram in microseconds; `None` if it is empty.
    pub(super) fn of(histogram: &Histogram<u64>) -> Option<Self> {
        if histogram.is_empty() {
            return None;
        }
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Some(Self {
            mean_ms: histogram.mean() / 1000.0,
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p95_ms: at(0.95),
            p99_ms: at(0.99),
            p99_9_ms: at(0.999),
            max_ms: at(1.0),
        })
    }
}
