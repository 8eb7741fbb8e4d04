//! Decides how many replicas a model needs so that a chosen percentile of its latency stays under the objective, and
//! explains why. Pure: times are milliseconds in the input; there is no clock, no I/O and no Kubernetes type. Every
//! decision is a function of one plain [`Input`]; written as a [`DecisionRecord`] it can be replayed, bit for bit.
//!
//! ```text
//! counter samples ─▶ demand ──┐
//! service curve  ─▶ queueing ─┴▶ model replicas ─▶ corrector ─▶ panic ─▶ stabilise ─▶ rate limits
//!                                  ─▶ bounds ─▶ capacity (never more than is free) ─▶ Decision
//! ```
//!
//! - [`signals`]: readings of batchers over time, as signals of a decision
//! - [`curve`]: time of one batch, L(b) = α + β·b
//! - [`queueing`]: latency quantiles of one batching slot under random arrivals
//! - [`demand`]: rows per second now and when a replica started now would be ready
//! - [`spec`], [`behavior`]: the user's specification, in the HorizontalPodAutoscaler's vocabulary
//! - [`standing`]: reasons that keep replicas from being ready, and rollouts
//! - [`input`], [`findings`]: what a decision depends on; [`decision`]: its result; [`state`]: what the next one needs of it
//! - [`decide`](decide()): the stages in order
//! - [`record`]: a decision as a line of JSON: replay and explain
pub mod behavior;
pub mod curve;
mod decide;
pub mod decision;
pub mod demand;
pub mod findings;
pub mod float;
pub mod input;
pub mod queueing;
pub mod record;
pub mod signals;
pub mod spec;
pub mod standing;
pub mod state;

pub use behavior::{Behavior, PolicyType, ScalingPolicy, ScalingRules, SelectPolicy};
pub use curve::Curve;
pub use decide::decide;
pub use decision::{CapacityLimited, Condition, ConditionType, Decision, Reason, Steps};
pub use findings::{Findings, Hold, HoldReason};
pub use input::{Current, Free, Input, Sample, Series, Signals};
pub use record::{DecisionRecord, Difference, explain, replay};
pub use spec::{Objective, Spec, Windows};
pub use standing::{Cause, Obstacle, Rollout, Standing, Surrender, Waiting};
pub use state::State;
