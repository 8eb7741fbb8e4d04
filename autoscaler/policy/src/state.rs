//! What one decision hands to the next. Losing it is safe: an empty history never scales down at once.
use serde::{Deserialize, Serialize};

use crate::spec::Spec;

/// Most entries of each list, whatever the windows are: an hour of decisions a second.
const MOST_ENTRIES: usize = 3600;

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
    /// The rollout for which the replicas were lowered; `None` = they are lowered for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lowered: Option<Lowered>,
    /// Replicas that were asked for after the last decision; `None` before the first.
    pub replicas_left: Option<u32>,
    /// Whether the replicas were set to zero by others, which switches scaling off until they set more.
    pub is_off: bool,
}

/// A rollout for which there is one replica fewer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lowered {
    /// The revision that is rolled out.
    pub revision: String,
    /// Replicas before.
    pub from: u32,
    /// When it was decided, milliseconds.
    pub at_ms: u64,
    /// Whether fewer replicas were seen since: what was decided need not have been applied.
    pub was_applied: bool,
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
        self.replicas_left = Some(to);
        if from != to {
            self.scale_events.push(ScaleEvent { at_ms, from, to });
        }
    }

    /// Notes a recommendation. Of equal ones in a row only the newest is kept: a window that reaches any
    /// of them reaches the newest.
    pub(crate) fn recommend(&mut self, at_ms: u64, replicas: u32) {
        match self.recommendations.last_mut().filter(|last| last.replicas == replicas) {
            Some(last) => last.at_ms = at_ms,
            None => self.recommendations.push(Recommendation { at_ms, replicas }),
        }
    }

    /// Drops what no window reaches any more.
    pub(crate) fn forget(&mut self, now_ms: u64, spec: &Spec) {
        let behavior = &spec.behavior;
        let rules = [&behavior.scale_up, &behavior.scale_down];
        let window = rules.iter().map(|r| r.stabilization_window_seconds).max().unwrap_or(0);
        let window_ms = u64::from(window) * 1000;
        let mut recommendations = std::mem::take(&mut self.recommendations);
        // The newest stays whatever its age: it dates the last decision.
        let newest = recommendations.last().copied();
        recommendations.retain(|r| r.at_ms.saturating_add(window_ms) > now_ms || Some(*r) == newest);
        let excess = recommendations.len().saturating_sub(MOST_ENTRIES);
        self.recommendations = recommendations.split_off(excess);
        let period = rules.iter().flat_map(|r| &r.policies).map(|p| u64::from(p.period_seconds) * 1000).max();
        let reach = period.unwrap_or(0).max(spec.windows.demand_ms);
        self.scale_events.retain(|e| now_ms.saturating_sub(e.at_ms) <= reach);
        let excess = self.scale_events.len().saturating_sub(MOST_ENTRIES);
        self.scale_events.drain(..excess);
    }
}
