//! State that one decision hands to the next. Losing it is safe: an empty state never scales down at once.
use serde::{Deserialize, Serialize};

use crate::spec::Spec;

/// Maximum entries of each list, whatever the windows are: an hour of one decision a second.
const MAX_ENTRIES: usize = 3600;

/// State of one workload's decisions. Bounded: entries older than the longest window are dropped.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct State {
    /// Time of the first decision, milliseconds; `None` before it.
    pub since_ms: Option<u64>,
    /// Recommendations before stabilisation, oldest first.
    pub recommendations: Vec<Recommendation>,
    /// Changes that were applied, oldest first; added by [`State::scaled`].
    pub scale_events: Vec<ScaleEvent>,
    /// Observed over predicted quantile, smoothed; `None` counts as 1.
    pub correction: Option<f64>,
    /// Time at which panic ends, milliseconds; `None` = no panic.
    pub panic_until_ms: Option<u64>,
    /// Time of the last demand, milliseconds; `None` = none was seen.
    pub last_demand_ms: Option<u64>,
    /// Rollout for which the replicas were lowered; `None` = they were not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lowered: Option<Lowered>,
    /// Replicas that were asked for after the last decision; `None` before the first.
    pub replicas_left: Option<u32>,
    /// Whether others have set the replicas to zero, which switches scaling off until they set more.
    pub is_off: bool,
}

/// Rollout for which the replicas were lowered by one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lowered {
    /// Revision that is rolled out.
    pub revision: String,
    /// Replicas before.
    pub from: u32,
    /// Time of that decision, milliseconds.
    pub at_ms: u64,
    /// Whether fewer replicas were seen since; a decision need not have been applied.
    pub was_applied: bool,
}

/// Replicas that a decision wanted before stabilisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Recommendation {
    /// Time, milliseconds.
    pub at_ms: u64,
    /// Replicas.
    pub replicas: u32,
}

/// Change of replicas that was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScaleEvent {
    /// Time, milliseconds.
    pub at_ms: u64,
    /// Replicas before.
    pub from: u32,
    /// Replicas after.
    pub to: u32,
}

impl State {
    /// Adds a change of replicas. To be called only after a decision has been applied, because rate limits count
    /// applied changes.
    pub fn scaled(&mut self, at_ms: u64, from: u32, to: u32) {
        self.replicas_left = Some(to);
        if from != to {
            self.scale_events.push(ScaleEvent { at_ms, from, to });
        }
    }

    /// Adds a recommendation. Of equal ones in a row it keeps the newest: a window that reaches any of them reaches the
    /// newest.
    pub(crate) fn recommend(&mut self, at_ms: u64, replicas: u32) {
        match self.recommendations.last_mut().filter(|last| last.replicas == replicas) {
            Some(last) => last.at_ms = at_ms,
            None => self.recommendations.push(Recommendation { at_ms, replicas }),
        }
    }

    /// Drops entries that no window reaches any more.
    pub(crate) fn forget(&mut self, now_ms: u64, spec: &Spec) {
        let behavior = &spec.behavior;
        let rules = [&behavior.scale_up, &behavior.scale_down];
        let window = rules.iter().map(|r| r.stabilization_window_seconds).max().unwrap_or(0);
        let window_ms = u64::from(window) * 1000;
        let mut recommendations = std::mem::take(&mut self.recommendations);
        // The newest stays whatever its age: it dates the last decision.
        let newest = recommendations.last().copied();
        recommendations.retain(|r| r.at_ms.saturating_add(window_ms) > now_ms || Some(*r) == newest);
        let excess = recommendations.len().saturating_sub(MAX_ENTRIES);
        self.recommendations = recommendations.split_off(excess);
        let period = rules.iter().flat_map(|r| &r.policies).map(|p| u64::from(p.period_seconds) * 1000).max();
        let reach = period.unwrap_or(0).max(spec.windows.demand_ms);
        self.scale_events.retain(|e| now_ms.saturating_sub(e.at_ms) <= reach);
        let excess = self.scale_events.len().saturating_sub(MAX_ENTRIES);
        self.scale_events.drain(..excess);
    }
}
