//! How many replicas a model needs so that a chosen percentile of its latency stays under the
//! objective, and why. Pure: times are milliseconds in the input, there is no clock, no I/O and no
//! Kubernetes type. Every decision is a function of one plain [`Input`] and carries its own
//! explanation; written down as a [`DecisionRecord`] it can be decided again, bit for bit.
//!
//! ```text
//! counter samples ─▶ demand ──┐
//! service curve  ─▶ queueing ─┴▶ model replicas ─▶ corrector ─▶ panic ─▶ stabilise ─▶ rate limits
//!                                  ─▶ bounds ─▶ capacity (never more than is free) ─▶ Decision
//! ```
//!
//! - [`curve`]: time of one batch, L(b) = α + β·b
//! - [`queueing`]: latency quantiles of one batching slot under random arrivals
//! - [`demand`]: rows per second now and when a replica started now would be ready
//! - [`spec`], [`behavior`]: what the user wants, in the HorizontalPodAutoscaler's vocabulary
//! - [`standing`]: what keeps replicas from being ready, and rollouts
//! - [`input`], [`findings`], [`decision`], [`state`]: what goes in, what comes out, what is carried over
//! - [`decide`](decide()): the stages in order
//! - [`record`]: replay and explain
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
