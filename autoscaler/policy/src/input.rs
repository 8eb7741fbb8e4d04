//! Input of a decision: everything that it depends on.
use serde::{Deserialize, Serialize};

use crate::curve::Curve;
use crate::findings::Findings;
use crate::float;
use crate::spec::Spec;
use crate::standing::Standing;
use crate::state::State;

/// Input of one decision: plain, complete, serialisable data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Input {
    /// Time of the decision, milliseconds on the clock of all other times here.
    pub now_ms: u64,
    /// The user's specification.
    pub spec: Spec,
    /// Replicas as they are.
    pub current: Current,
    /// Measurements.
    pub signals: Signals,
    /// Slices for further replicas.
    pub free: Free,
    /// Reasons that keep replicas from being ready.
    #[serde(default)]
    pub standing: Standing,
    /// Other facts about the target.
    #[serde(default)]
    pub findings: Findings,
    /// State of the last decision ([`Decision::state`](crate::Decision::state)).
    #[serde(default)]
    pub state: State,
}

/// Replicas as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Current {
    /// Replicas asked for: `spec.replicas` of the scale.
    pub replicas: u32,
    /// Number of these that can serve.
    pub ready: u32,
}

/// A value with the time at which it was read.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sample {
    /// Time, milliseconds.
    pub at_ms: u64,
    /// Value in the signal's unit. NaN is kept, and counts as missing.
    #[serde(with = "float")]
    pub value: f64,
}

/// A process's counter over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Series {
    /// Name of the process. Counters of different processes are not mixed.
    pub source: String,
    /// Samples, oldest first.
    pub samples: Vec<Sample>,
}

/// Measurements of one workload. `None` and an empty list mean "not known", never zero.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Signals {
    /// Counters of rows that arrived, rejected and held ones included, one per batcher.
    pub demand_rows: Vec<Series>,
    /// Learned service curve of one replica's slot.
    pub curve: Option<Curve>,
    /// Rows waiting, summed over all batchers.
    pub queue_rows: Option<Sample>,
    /// Measured latency at the objective's quantile, milliseconds, over a window of recent requests.
    pub observed_quantile_ms: Option<Sample>,
    /// Share of recent requests within the objective, 0 to 1.
    pub attainment: Option<Sample>,
    /// Whether requests are held because there is no replica.
    pub demand_latched: bool,
    /// Names of batchers whose own page could not be read and that were read from the second source, Prometheus.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub second_source: Vec<String>,
}

/// Slices for replicas beyond those asked for already, as the inventory counts them. By default nothing is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Free {
    /// Number of further replicas that would be placed; `None` = not known, which allows no growth.
    pub slices: Option<u32>,
    /// What is in the way of the next replica, or why the number is not known.
    pub reason: String,
}
