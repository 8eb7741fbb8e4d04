//! What one decision hands to the next. Losing it is safe: an empty history never scales down at once.
use serde::{Deserialize, Serialize};

/// State of one workload's decisions. Bounded: entries older than the longest window are dropped.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct State {
    /// When this state began, milliseconds; `None` before the first decision.
    pub since_ms: Option<u64>,
    /// Recommendations before stabilisation, oldest first.
    pub recommendations: Vec<Recommendation>,
    /// Changes that were applied, oldest first; told by [`State::scaled`].
    pub scale_events: Vec<ScaleEvent>,
    /// Observed over predicted quantile, smoothed; 1 when nothing is known.
    pub correction: Option<f64>,
    /// Until when panic lasts, milliseconds; `None` = no panic.
    pub panic_until_ms: Option<u64>,
    /// When there was last any demand (or the state began), milliseconds.
    pub last_demand_ms: Option<u64>,
}

/// What a decision wanted before stabilisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Recommendation {
    /// When, milliseconds.
    pub at_ms: u64,
    /// Replicas.
    pub replicas: u32,
}

/// A change that was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScaleEvent {
    /// When, milliseconds.
    pub at_ms: u64,
    /// Replicas before.
    pub from: u32,
    /// Replicas after.
    pub to: u32,
}

impl State {
    /// To be called after a decision has really been applied: rate limits count applied changes alone.
    pub fn scaled(&mut self, at_ms: u64, from: u32, to: u32) {
        if from != to {
            self.scale_events.push(ScaleEvent { at_ms, from, to });
        }
    }
}
