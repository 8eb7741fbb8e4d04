//! What is decided, and why.
use serde::{Deserialize, Serialize};

use crate::state::State;

/// A decision that explains itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Decision {
    /// Replicas to ask for. Never more than [`Input`](crate::Input)'s current + free.
    pub desired: u32,
    /// Whether to write it: it differs from the current replicas, and neither paused nor dry-run.
    pub apply: bool,
    /// Why, for machines.
    pub reason: Reason,
    /// Why, for people: one sentence.
    pub message: String,
    /// Set when more were wanted than can be placed.
    pub limited: Option<CapacityLimited>,
    /// Conditions for the object's status.
    pub conditions: Vec<Condition>,
    /// Each stage's number.
    pub steps: Steps,
    /// To be put into the next [`Input::state`](crate::Input::state).
    pub state: State,
}

/// Why the replicas are what they are: the stage that had the last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// The current replicas are right.
    Steady,
    /// The need is within the tolerance of what there is.
    WithinTolerance,
    /// The model wants more.
    DemandRose,
    /// The model wants fewer.
    DemandFell,
    /// A burst exceeds what there is: up at once, no scale-down.
    Panic,
    /// Requests are waiting and there is no replica.
    FromZero,
    /// No demand for long enough.
    ToZero,
    /// A stabilisation window holds it.
    Stabilized,
    /// Fewer would do by the model, but recent requests missed the objective too often: held.
    ObjectiveMissed,
    /// A rate policy holds it.
    RateLimited,
    /// At `minReplicas`.
    AtMinimum,
    /// At `maxReplicas`.
    AtMaximum,
    /// Fewer slices are free than wanted.
    CapacityLimited,
    /// One replica fewer for as long as a rollout needs its slice.
    RolloutLowered,
    /// More are wanted, but as many replicas fail to start as serve: held.
    ReplicasFailing,
    /// More are wanted, and it is not known how many fit.
    CapacityUnknown,
    /// Metrics are missing, stale or not numbers: held.
    MetricsMissing,
    /// Demand is known, the service curve is not yet: held.
    LearningCurve,
    /// No number of replicas meets the objective: one batch alone takes too long.
    ObjectiveImpossible,
    /// Paused by the user.
    Paused,
    /// Replicas were set to zero by others: off until they set more.
    ScalingDisabled,
    /// Another autoscaler scales the same replicas: held.
    AmbiguousTarget,
    /// The target's selector matches pods that are not its own: held.
    AmbiguousSelector,
    /// Others set the replicas back again and again: held for a while.
    ScaleContested,
    /// The specification makes no sense: held.
    InvalidSpec,
}

/// More replicas were wanted than can be placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CapacityLimited {
    /// What each replica needs.
    pub profile: String,
    /// Replicas wanted.
    pub wanted: u32,
    /// Slices free for further replicas.
    pub free: u32,
    /// Who holds what is in the way.
    pub reason: String,
}

/// Condition types: the HPA's three and ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ConditionType {
    /// Whether replicas may be changed (not paused, not held by a window).
    AbleToScale,
    /// Whether a number could be computed from metrics.
    ScalingActive,
    /// Whether bounds, rates or capacity cut the number.
    ScalingLimited,
    /// Whether metrics are present and recent.
    MetricsFresh,
    /// Whether free slices cut the number, or replicas that were asked for wait for one.
    CapacityLimited,
    /// Whether all replicas that were asked for take traffic.
    Ready,
    /// Whether decisions are computed and not applied.
    DryRun,
}

/// One condition, without the times that only its writer knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Condition {
    /// Type.
    pub r#type: ConditionType,
    /// True or False.
    pub status: bool,
    /// One CamelCase word.
    pub reason: String,
    /// One sentence.
    pub message: String,
}

/// Each stage's number; `None` where the stage was not reached.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Steps {
    /// Rows per second now.
    pub rate_rows_per_second: Option<f64>,
    /// Rows per second over the burst window.
    pub burst_rows_per_second: Option<f64>,
    /// Rows per second expected when a replica started now is ready.
    pub forecast_rows_per_second: Option<f64>,
    /// Rows per second that draining the queue adds.
    pub backlog_rows_per_second: Option<f64>,
    /// What the model is asked to serve: the largest of these plus the backlog.
    pub demand_rows_per_second: Option<f64>,
    /// Index of dispersion of arrivals: 1 = Poisson.
    pub burstiness: Option<f64>,
    /// Observed over predicted quantile, smoothed and bounded.
    pub correction: Option<f64>,
    /// Rows per second that one replica serves within the objective.
    pub capacity_per_replica_rows_per_second: Option<f64>,
    /// Need as a fraction of replicas.
    pub need: Option<f64>,
    /// Predicted quantile at the current ready replicas, milliseconds.
    pub predicted_quantile_ms: Option<f64>,
    /// Replicas of the model.
    pub model: Option<u32>,
    /// After panic.
    pub panic: Option<u32>,
    /// After stabilisation.
    pub stabilized: Option<u32>,
    /// After rate policies.
    pub rate_limited: Option<u32>,
    /// After minimum and maximum.
    pub bounded: Option<u32>,
    /// After replicas that fail to start.
    pub failing: Option<u32>,
    /// After capacity.
    pub capacity: Option<u32>,
    /// After a rollout.
    pub rollout: Option<u32>,
}
