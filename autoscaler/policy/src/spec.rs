//! The user's specification of a workload.
use serde::{Deserialize, Serialize};

use crate::behavior::Behavior;
use crate::float;

/// Latency objective.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Objective {
    /// Quantile of latency, above 0 and below 1, e.g. 0.99.
    #[serde(with = "float")]
    pub quantile: f64,
    /// Upper bound of that quantile, milliseconds.
    #[serde(with = "float")]
    pub latency_ms: f64,
}

/// Specification of one autoscaled workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spec {
    /// Latency objective.
    pub objective: Objective,
    /// Minimum replicas while it is not scaled to zero.
    pub min_replicas: u32,
    /// Maximum replicas.
    pub max_replicas: u32,
    /// Limits on how fast replicas may change.
    #[serde(default)]
    pub behavior: Behavior,
    /// Time without any demand after which it is scaled to zero, seconds; `None` = never below `min_replicas` (where
    /// `min_replicas` 0 counts as 1).
    #[serde(default)]
    pub scale_to_zero_after_seconds: Option<u32>,
    /// Whether to keep the replicas as they are.
    #[serde(default)]
    pub paused: bool,
    /// Whether to decide and explain without applying.
    #[serde(default)]
    pub dry_run: bool,
    /// Time from asking for a replica to its first request, milliseconds: how far ahead demand is forecast, and how long
    /// a burst has to be survived.
    pub startup_ms: u64,
    /// Profile of the slice that each replica needs, for messages: `2g.10gb`.
    #[serde(default)]
    pub profile: String,
    /// Lengths of the windows over the signals.
    #[serde(default)]
    pub windows: Windows,
}

impl Spec {
    /// Returns why the specification is invalid; `None` when it is valid.
    pub fn invalid(&self) -> Option<String> {
        let Objective { quantile, latency_ms } = self.objective;
        if !(quantile > 0.0 && quantile < 1.0) {
            return Some(format!("objective.quantile is {quantile}, but must be above 0 and below 1"));
        }
        if !(latency_ms.is_finite() && latency_ms > 0.0) {
            return Some(format!("objective.latencyMs is {latency_ms}, but must be above 0"));
        }
        if self.max_replicas < self.min_replicas.max(1) {
            return Some(format!(
                "maxReplicas is {}, but must be at least 1 and at least minReplicas ({})",
                self.max_replicas, self.min_replicas
            ));
        }
        let tolerances = [self.behavior.scale_up.tolerance, self.behavior.scale_down.tolerance];
        if tolerances.iter().any(|t| !(0.0..=1.0).contains(t)) {
            return Some(format!("a tolerance of {tolerances:?} is not between 0 and 1"));
        }
        None
    }
}

/// Lengths of the windows over the signals. The defaults suit real time; tests in compressed time use shorter ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Windows {
    /// Window of the rate of rows, milliseconds.
    pub demand_ms: u64,
    /// Window of a burst, milliseconds.
    pub burst_ms: u64,
    /// Window of the trend, milliseconds.
    pub trend_ms: u64,
    /// Age beyond which a signal counts as missing, milliseconds.
    pub stale_ms: u64,
    /// Time that panic lasts after the last burst, milliseconds.
    pub panic_ms: u64,
    /// Time in which a queue should be drained, milliseconds.
    pub drain_ms: u64,
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            demand_ms: 60_000,
            burst_ms: 6_000,
            trend_ms: 120_000,
            stale_ms: 15_000,
            panic_ms: 60_000,
            drain_ms: 10_000,
        }
    }
}
