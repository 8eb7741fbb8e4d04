//! Limits on how fast replicas may change: the HorizontalPodAutoscaler's `behavior`, word for word.
use serde::{Deserialize, Serialize};

use crate::float;

/// Rules for both directions. The default is the HPA's: up at once, by at most 4 pods or 100 % per 15 s; down to the
/// largest recommendation of the last 300 s.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Behavior {
    /// Rules for more replicas.
    #[serde(default = "ScalingRules::default_up")]
    pub scale_up: ScalingRules,
    /// Rules for fewer replicas.
    #[serde(default = "ScalingRules::default_down")]
    pub scale_down: ScalingRules,
}

impl Default for Behavior {
    fn default() -> Self {
        Self { scale_up: ScalingRules::default_up(), scale_down: ScalingRules::default_down() }
    }
}

/// Rules for one direction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScalingRules {
    /// Window of recommendations, seconds: of a scale-up the smallest counts, of a scale-down the largest. 0 = only the
    /// newest counts.
    pub stabilization_window_seconds: u32,
    /// Which policy counts where several are given.
    #[serde(default)]
    pub select_policy: SelectPolicy,
    /// Limits on the replicas added or removed per period; an empty list sets no limit.
    #[serde(default)]
    pub policies: Vec<ScalingPolicy>,
    /// Relative change of the need (replicas as a fraction) below which nothing changes, e.g. 0.1.
    #[serde(default = "default_tolerance", with = "float")]
    pub tolerance: f64,
}

fn default_tolerance() -> f64 {
    0.1
}

impl ScalingRules {
    /// Returns the HPA's default for more replicas.
    pub fn default_up() -> Self {
        Self {
            stabilization_window_seconds: 0,
            select_policy: SelectPolicy::Max,
            policies: vec![
                ScalingPolicy { r#type: PolicyType::Pods, value: 4, period_seconds: 15 },
                ScalingPolicy { r#type: PolicyType::Percent, value: 100, period_seconds: 15 },
            ],
            tolerance: default_tolerance(),
        }
    }

    /// Returns the HPA's default for fewer replicas.
    pub fn default_down() -> Self {
        Self {
            stabilization_window_seconds: 300,
            select_policy: SelectPolicy::Max,
            policies: vec![ScalingPolicy { r#type: PolicyType::Percent, value: 100, period_seconds: 15 }],
            tolerance: default_tolerance(),
        }
    }
}

/// Limit on the change per period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScalingPolicy {
    /// Whether `value` is replicas or percent.
    pub r#type: PolicyType,
    /// Replicas, or percent of the replicas at the period's start.
    pub value: u32,
    /// Length of the sliding period, seconds.
    pub period_seconds: u32,
}

/// Unit of a [`ScalingPolicy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PolicyType {
    /// Replicas.
    Pods,
    /// Percent of the replicas at the period's start.
    Percent,
}

/// Which of several policies counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum SelectPolicy {
    /// The one that allows the largest change.
    #[default]
    Max,
    /// The one that allows the smallest change.
    Min,
    /// No change in this direction at all.
    Disabled,
}
