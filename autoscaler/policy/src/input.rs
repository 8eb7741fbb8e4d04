//! Everything that a decision depends on.
use serde::{Deserialize, Serialize};

use crate::curve::Curve;
use crate::findings::Findings;
use crate::float;
use crate::spec::Spec;
use crate::standing::Standing;
use crate::state::State;

/// One decision's input: plain data, complete, serialisable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Input {
    /// Now, milliseconds on the clock that all other times here are of.
    pub now_ms: u64,
    /// What the user wants.
    pub spec: Spec,
    /// What there is.
    pub current: Current,
    /// What was measured.
    pub signals: Signals,
    /// What more could be placed.
    pub free: Free,
    /// What is in the way of replicas that were asked for.
    #[serde(default)]
    pub standing: Standing,
    /// What else was found out about the target.
    #[serde(default)]
    pub findings: Findings,
    /// Carried over from the last decision ([`Decision::state`](crate::Decision::state)).
    #[serde(default)]
    pub state: State,
}

/// Replicas as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Current {
    /// Asked for (the scale's spec).
    pub replicas: u32,
    /// Of these, able to serve.
    pub ready: u32,
}

/// A value and when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sample {
    /// When, milliseconds.
    pub at_ms: u64,
    /// Value, in the signal's unit. NaN is kept and treated as missing.
    #[serde(with = "float")]
    pub value: f64,
}

/// One process's counter over time, oldest sample first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Series {
    /// Which process: a counter that restarts with it is not mixed with another's.
    pub source: String,
    /// Its samples.
    pub samples: Vec<Sample>,
}

/// What was measured. `None` and an empty list mean "not known", never zero.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Signals {
    /// Counter of rows that arrived (also those rejected or held), per batcher.
    pub demand_rows: Vec<Series>,
    /// Learned service curve of one replica's slot.
    pub curve: Option<Curve>,
    /// Rows waiting, over all batchers.
    pub queue_rows: Option<Sample>,
    /// Measured latency at the objective's quantile, milliseconds, over a window of recent requests.
    pub observed_quantile_ms: Option<Sample>,
    /// Share of recent requests within the objective, 0..1.
    pub attainment: Option<Sample>,
    /// Requests are held because there is no replica.
    pub demand_latched: bool,
    /// Batchers that could not be read themselves and were read from the second source (Prometheus).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub second_source: Vec<String>,
}

/// What the inventory says: slices for further replicas, beyond those asked for already. By default nothing is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Free {
    /// How many more replicas would be placed; `None` = not known, which allows none.
    pub slices: Option<u32>,
    /// What stands in the way of the next, or why it is not known.
    pub reason: String,
}
