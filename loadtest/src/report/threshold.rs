//! Thresholds on a report, such as `p99_ms<200`, `lost==0` or `attainment>=0.99`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sluice_process::settings::with_suggestion;

/// Numbers that thresholds can compare, named as in the JSON report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // Described where the report describes its fields.
pub enum Metric {
    Requests,
    Answered,
    Attained,
    Attainment,
    Rejected,
    Failed,
    Lost,
    ThroughputRps,
    MeanMs,
    P50Ms,
    P90Ms,
    P95Ms,
    P99Ms,
    P99_9Ms,
    MaxMs,
    SendLagP50Ms,
    SendLagP99Ms,
    SendLagMaxMs,
}

const METRICS: [(&str, Metric); 18] = [
    ("requests", Metric::Requests),
    ("answered", Metric::Answered),
    ("attained", Metric::Attained),
    ("attainment", Metric::Attainment),
    ("rejected", Metric::Rejected),
    ("failed", Metric::Failed),
    ("lost", Metric::Lost),
    ("throughput_rps", Metric::ThroughputRps),
    ("mean_ms", Metric::MeanMs),
    ("p50_ms", Metric::P50Ms),
    ("p90_ms", Metric::P90Ms),
    ("p95_ms", Metric::P95Ms),
    ("p99_ms", Metric::P99Ms),
    ("p99_9_ms", Metric::P99_9Ms),
    ("max_ms", Metric::MaxMs),
    ("send_lag_p50_ms", Metric::SendLagP50Ms),
    ("send_lag_p99_ms", Metric::SendLagP99Ms),
    ("send_lag_max_ms", Metric::SendLagMaxMs),
];

/// Operator of a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
}

/// Operators, longer ones first, so that `<=` is not read as `<`.
const COMPARISONS: [(&str, Comparison); 6] = [
    ("<=", Comparison::LessOrEqual),
    (">=", Comparison::GreaterOrEqual),
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
];

/// Condition on a report.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    /// Metric that is compared.
    pub metric: Metric,
    comparison: Comparison,
    bound: f64,
    text: String,
}

/// Result of a threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// Text of the threshold.
    pub threshold: String,
    /// Value in the run; `None` if the run has no such value.
    pub value: Option<f64>,
    /// Whether the threshold holds; `false` without a value.
    pub passed: bool,
}

/// Error of a threshold that cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("threshold `{text}`: {reason}")]
pub struct BadThreshold {
    /// Text of the threshold.
    pub text: String,
    /// Fault of the text, and what would be valid.
    pub reason: String,
}

impl Threshold {
    /// Evaluates the threshold for a value.
    pub fn judge(&self, value: Option<f64>) -> Judged {
        let passed = value.is_some_and(|value| match self.comparison {
            Comparison::Less => value < self.bound,
            Comparison::LessOrEqual => value <= self.bound,
            Comparison::Greater => value > self.bound,
            Comparison::GreaterOrEqual => value >= self.bound,
            Comparison::Equal => value == self.bound,
            Comparison::NotEqual => value != self.bound,
        });
        Judged { threshold: self.text.clone(), value, passed }
    }
}

impl FromStr for Threshold {
    type Err = BadThreshold;

    fn from_str(text: &str) -> Result<Self, BadThreshold> {
        let bad = |reason: String| BadThreshold { text: text.to_owned(), reason };
        let parts = COMPARISONS.iter().find_map(|(operator, comparison)| {
            text.split_once(operator).map(|(metric, bound)| (metric.trim(), *comparison, bound.trim()))
        });
        let Some((name, comparison, bound)) = parts else {
            return Err(bad("expected METRIC, one of < <= > >= == !=, NUMBER, such as `p99_ms<200`".into()));
        };
        let Some((_, metric)) = METRICS.iter().find(|(known, _)| *known == name) else {
            let known = METRICS.map(|(known, _)| format!("`{known}`")).join(", ");
            return Err(bad(with_suggestion(&format!("unknown field `{name}`, expected one of {known}"))));
        };
        let bound = bound.parse().ok().filter(|bound: &f64| bound.is_finite());
        let bound = bound.ok_or_else(|| bad("its right side is no number".into()))?;
        Ok(Self { metric: *metric, comparison, bound, text: text.to_owned() })
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(text: &str, value: f64) -> bool {
        text.parse::<Threshold>().unwrap().judge(Some(value)).passed
    }

    #[test]
    fn each_operator_compares_as_it_reads() {
        assert!(holds("p99_ms<200", 199.9) && !holds("p99_ms<200", 200.0));
        assert!(holds("p99_ms <= 200", 200.0) && !holds("p99_ms<=200", 200.1));
        assert!(holds("attainment>=0.99", 0.99) && !holds("attainment>=0.99", 0.98));
        assert!(holds("throughput_rps>10", 10.5) && !holds("throughput_rps>10", 10.0));
        assert!(holds("lost==0", 0.0) && !holds("lost==0", 1.0));
        assert!(holds("rejected!=0", 1.0) && !holds("rejected!=0", 0.0));
    }

    #[test]
    fn a_value_that_is_not_there_does_not_pass() {
        assert!(!"p99_ms<200".parse::<Threshold>().unwrap().judge(None).passed);
    }

    #[test]
    fn what_is_wrong_is_said_with_what_would_be_right() {
        let message = |text: &str| text.parse::<Threshold>().unwrap_err().to_string();
        assert!(message("p99_ms").contains("such as `p99_ms<200`"));
        assert!(message("p99ms<200").contains("did you mean `p99_ms`"), "{}", message("p99ms<200"));
        assert!(message("p99_ms<fast").contains("no number"));
        assert!(message("p99_ms<NaN").contains("no number"));
    }
}
