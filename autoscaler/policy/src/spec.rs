//! What the user wants.
use serde::{Deserialize, Serialize};

use crate::behavior::Behavior;

/// Latency objective.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Objective {
    /// Which quantile of latency, 0..1, e.g. 0.99.
    pub quantile: f64,
    /// Its upper bound, milliseconds.
    pub latency_ms: f64,
}

/// One autoscaled workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spec {
    /// Latency objective.
    pub objective: Objective,
    /// Fewest replicas while it is not scaled to zero.
    pub min_replicas: u32,
    /// Most replicas.
    pub max_replicas: u32,
    /// How fast replicas may change.
    #[serde(default)]
    pub behavior: Behavior,
    /// Scale to zero after this long without any demand; `None` = never below `min_replicas` (and
    /// `min_replicas` 0 without it is treated as 1).
    #[serde(default)]
    pub scale_to_zero_after_seconds: Option<u32>,
    /// Recommend nothing new: keep the replicas as they are.
    #[serde(default)]
    pub paused: bool,
    /// Decide and explain, but do not apply.
    #[serde(default)]
    pub dry_run: bool,
    /// Time from asking for a replica to its first request, milliseconds: how far ahead demand is
    /// forecast, and how long a burst has to be survived.
    pub startup_ms: u64,
    /// What each replica needs, for messages: `2g.10gb`.
    #[serde(default)]
    pub profile: String,
    /// Lengths of the windows that demand is read over.
    #[serde(default)]
    pub windows: Windows,
}

/// Windows over the signals. One set of numbers for real time; shorter ones for compressed time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Windows {
    /// Over which the rate of rows is measured, milliseconds.
    pub demand_ms: u64,
    /// Over which a burst is measured (panic), milliseconds.
    pub burst_ms: u64,
    /// Over which the trend is measured, milliseconds.
    pub trend_ms: u64,
    /// A signal older than this is no signal, milliseconds.
    pub stale_ms: u64,
    /// How long panic lasts after the last burst, milliseconds.
    pub panic_ms: u64,
    /// In which a queue is to be drained, milliseconds.
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
