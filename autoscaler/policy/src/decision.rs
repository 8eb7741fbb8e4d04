//! A decision and its explanation.
use serde::{Deserialize, Serialize};

use crate::state::State;

/// A decision that explains itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Decision {
    /// Replicas to ask for: never more than [`Input`](crate::Input)'s current + free.
    pub desired: u32,
    /// Whether to apply it: it differs from the current replicas, and the specification is neither paused nor a dry run.
    pub apply: bool,
    /// Reason, for programs.
    pub reason: Reason,
    /// Reason, for people: one sentence.
    pub message: String,
    /// Details where more replicas were wanted than can be placed; `None` otherwise.
    pub limited: Option<CapacityLimited>,
    /// Conditions for the object's status.
    pub conditions: Vec<Condition>,
    /// Result of each stage.
    pub steps: Steps,
    /// State for the next [`Input::state`](crate::Input::state).
    pub state: State,
}

/// Reason for the number of replicas: the last stage that changed or held it.
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
    /// Others set the replicas back repeatedly: held for a while.
    ScaleContested,
    /// The specification is invalid: held.
    InvalidSpec,
}

/// Details of a decision for which too few slices are free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CapacityLimited {
    /// Profile of the slice that each replica needs.
    pub profile: String,
    /// Replicas wanted.
    pub wanted: u32,
    /// Slices free for further replicas.
    pub free: u32,
    /// Holders of the slices that are in the way.
    pub reason: String,
}

/// Condition types: the HPA's three, and Sluice's own.
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

/// A condition without its times, which only its writer knows.
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

/// Result of each stage; `None` where the stage was not reached.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Steps {
    /// Measured rows per second.
    pub rate_rows_per_second: Option<f64>,
    /// Rows per second over the burst window.
    pub burst_rows_per_second: Option<f64>,
    /// Rows per second expected when a replica started now is ready.
    pub forecast_rows_per_second: Option<f64>,
    /// Rows per second that draining the queue adds.
    pub backlog_rows_per_second: Option<f64>,
    /// Rows per second that the model has to serve: the largest of these plus the backlog.
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
    /// Replicas that the model wants.
    pub model: Option<u32>,
    /// Replicas after panic.
    pub panic: Option<u32>,
    /// Replicas after stabilisation.
    pub stabilized: Option<u32>,
    /// Replicas after rate policies.
    pub rate_limited: Option<u32>,
    /// Replicas after minimum and maximum.
    pub bounded: Option<u32>,
    /// Replicas after the check for failing starts.
    pub failing: Option<u32>,
    /// Replicas after capacity.
    pub capacity: Option<u32>,
    /// Replicas after a rollout.
    pub rollout: Option<u32>,
}
