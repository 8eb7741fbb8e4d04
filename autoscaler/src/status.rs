//! Tracks the status of an InferenceAutoscaler: conditions with the times of their transitions, and the last decisions.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use sluice_config::api::inference_autoscaler::{DecisionSummary, InferenceAutoscalerStatus};
use sluice_scaling_policy::{Decision, DecisionRecord, Reason, explain};

/// Maximum decisions in the status.
const MAX_DECISIONS: usize = 10;
/// Shortest time between two writes of changes in messages only, milliseconds.
const MESSAGES_EVERY_MS: i64 = 5_000;

/// Last status of one autoscaler; avoids writes that change nothing.
#[derive(Debug, Default)]
pub(crate) struct StatusTracker {
    status: InferenceAutoscalerStatus,
    written_at: Option<Timestamp>,
    /// Whether the last write failed.
    is_behind: bool,
}

/// Numbers of replicas in one tick.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counts {
    /// Replicas asked for before the decision.
    pub from: u32,
    /// Replicas asked for after it was applied (or not).
    pub to: u32,
    /// Replicas that exist, terminating ones included.
    pub current: u32,
    /// Replicas that take traffic.
    pub ready: u32,
}

impl StatusTracker {
    /// Continues with the status from before a restart: transition times and decisions are kept.
    pub(crate) fn resume(status: InferenceAutoscalerStatus) -> Self {
        Self { status, written_at: None, is_behind: false }
    }

    /// Remembers that the last write failed, so that the next tick writes whether or not anything is new.
    pub(crate) fn not_written(&mut self) {
        self.is_behind = true;
    }

    /// Returns the present status.
    pub(crate) fn status(&self) -> &InferenceAutoscalerStatus {
        &self.status
    }

    /// Adds a decision. Returns whether the status should be written: it has something new, or changed messages and the last
    /// write is some seconds old.
    pub(crate) fn decided(
        &mut self,
        at: Timestamp,
        generation: Option<i64>,
        record: &DecisionRecord,
        counts: Counts,
    ) -> bool {
        let before = self.status.clone();
        let decision = &record.decision;
        self.status.observed_generation = generation;
        self.status.desired_replicas = counts.to;
        self.status.current_replicas = counts.current;
        self.status.ready_replicas = counts.ready;
        let conditions = decision.conditions.iter().map(|condition| Condition {
            type_: format!("{:?}", condition.r#type),
            status: if condition.status { "True" } else { "False" }.to_owned(),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
            observed_generation: generation,
            last_transition_time: Time(at),
        });
        self.status.conditions = conditions.map(|condition| since(&before.conditions, condition)).collect();
        let notable = self.is_notable(decision, counts);
        if notable {
            let entry = DecisionSummary {
                time: at.to_string(),
                from: counts.from,
                to: counts.to,
                reason: format!("{:?}", decision.reason),
                message: decision.message.clone(),
                // The first line is the summary's message.
                explanation: explain(record)
                    .lines()
                    .skip(1)
                    .map(|line| line.trim_start().to_owned())
                    .collect(),
            };
            // Of calm decisions in a row only the newest is kept, or they would push out the changes of replicas.
            if self.status.decisions.first().is_some_and(is_calm) && is_calm(&entry) {
                self.status.decisions.remove(0);
            }
            self.status.decisions.insert(0, entry);
            self.status.decisions.truncate(MAX_DECISIONS);
        }
        self.is_due(&before, notable, at)
    }

    /// Sets the conditions for a tick in which no decision could be made: all others become Unknown. Returns whether the
    /// status should be written.
    pub(crate) fn failed(
        &mut self,
        at: Timestamp,
        generation: Option<i64>,
        reason: &str,
        message: &str,
    ) -> bool {
        let before = self.status.clone();
        self.status.observed_generation = generation;
        let condition = since(
            &before.conditions,
            Condition {
                type_: "AbleToScale".to_owned(),
                status: "False".to_owned(),
                reason: reason.to_owned(),
                message: message.to_owned(),
                observed_generation: generation,
                last_transition_time: Time(at),
            },
        );
        if reason == "TargetNotFound" {
            self.status.desired_replicas = 0;
            self.status.current_replicas = 0;
            self.status.ready_replicas = 0;
        }
        // A stopped autoscaler says nothing about its target, which goes on as it is.
        if reason != "Stopped" {
            let others = before.conditions.iter().filter(|known| known.type_ != condition.type_);
            self.status.conditions =
                others.map(|known| unknown(&before.conditions, known, &condition)).collect();
        }
        match self.status.conditions.iter_mut().find(|known| known.type_ == condition.type_) {
            Some(known) => *known = condition,
            None => self.status.conditions.insert(0, condition),
        }
        self.is_due(&before, false, at)
    }

    /// Returns whether a decision differs from the last one in the list.
    fn is_notable(&self, decision: &Decision, counts: Counts) -> bool {
        match self.status.decisions.first() {
            None => true,
            Some(last) => {
                counts.from != counts.to
                    || last.to != counts.to
                    || last.reason != format!("{:?}", decision.reason)
            }
        }
    }

    fn is_due(&mut self, before: &InferenceAutoscalerStatus, notable: bool, at: Timestamp) -> bool {
        let messages_are_old = self
            .written_at
            .is_none_or(|written| at.duration_since(written).as_millis() >= i128::from(MESSAGES_EVERY_MS));
        let due = std::mem::take(&mut self.is_behind)
            || notable
            || without_messages(before) != without_messages(&self.status)
            || (messages_are_old && *before != self.status);
        if due {
            self.written_at = Some(at);
        }
        due
    }
}

/// Returns whether a decision changed nothing and nothing was missing for it.
fn is_calm(decision: &DecisionSummary) -> bool {
    let trouble = [
        Reason::CapacityLimited,
        Reason::CapacityUnknown,
        Reason::AmbiguousTarget,
        Reason::AmbiguousSelector,
        Reason::ScaleContested,
        Reason::MetricsMissing,
        Reason::ReplicasFailing,
        Reason::RolloutLowered,
        Reason::ObjectiveImpossible,
        Reason::InvalidSpec,
        Reason::Paused,
    ];
    decision.from == decision.to && !trouble.iter().any(|reason| format!("{reason:?}") == decision.reason)
}

/// Returns the condition while no decision can be made, because of `why`.
fn unknown(before: &[Condition], known: &Condition, why: &Condition) -> Condition {
    let condition = Condition {
        status: "Unknown".to_owned(),
        reason: why.reason.clone(),
        message: format!("It is not known while no decision can be made: {}", why.message),
        observed_generation: why.observed_generation,
        last_transition_time: why.last_transition_time.clone(),
        type_: known.type_.clone(),
    };
    since(before, condition)
}

/// Sets the time since when the condition has had its status.
fn since(before: &[Condition], mut condition: Condition) -> Condition {
    let known = before.iter().find(|known| known.type_ == condition.type_);
    if let Some(known) = known.filter(|known| known.status == condition.status) {
        condition.last_transition_time = known.last_transition_time.clone();
    }
    condition
}

/// Returns the status without the parts that change at every tick.
fn without_messages(status: &InferenceAutoscalerStatus) -> InferenceAutoscalerStatus {
    let mut status = status.clone();
    status.conditions.iter_mut().for_each(|condition| condition.message.clear());
    status.decisions.clear();
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_scaling_policy::{
        Current, Findings, Free, Input, Objective, Signals, Spec, Standing, State, Windows,
    };

    fn record() -> DecisionRecord {
        let spec = Spec {
            objective: Objective { quantile: 0.99, latency_ms: 300.0 },
            min_replicas: 1,
            max_replicas: 4,
            behavior: sluice_scaling_policy::Behavior::default(),
            scale_to_zero_after_seconds: None,
            paused: false,
            dry_run: false,
            startup_ms: 1000,
            profile: "2g.10gb".to_owned(),
            windows: Windows::default(),
        };
        let input = Input {
            now_ms: 1000,
            spec,
            current: Current { replicas: 1, ready: 1 },
            signals: Signals::default(),
            free: Free { slices: Some(2), reason: String::new() },
            standing: Standing::default(),
            findings: Findings::default(),
            state: State::default(),
        };
        DecisionRecord::new("default/bert", input)
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    const SAME: Counts = Counts { from: 1, to: 1, current: 1, ready: 1 };

    #[test]
    fn the_same_decision_again_is_not_written_again() {
        let mut tracker = StatusTracker::default();
        assert!(tracker.decided(at(0), None, &record(), SAME));
        for second in 1..100 {
            assert!(!tracker.decided(at(second), None, &record(), SAME));
        }
        assert_eq!(tracker.status().decisions.len(), 1);
    }

    #[test]
    fn what_could_not_be_written_is_written_at_the_next_tick() {
        let mut tracker = StatusTracker::default();
        assert!(tracker.decided(at(0), None, &record(), SAME));
        tracker.not_written();
        assert!(tracker.decided(at(1), None, &record(), SAME));
        assert!(!tracker.decided(at(2), None, &record(), SAME));
    }

    #[test]
    fn a_change_of_replicas_is_written_and_the_list_stays_bounded() {
        let mut tracker = StatusTracker::default();
        for step in 0..50_u32 {
            let counts = Counts { from: step, to: step + 1, current: step, ready: step };
            assert!(tracker.decided(at(i64::from(step)), Some(3), &record(), counts));
        }
        let status = tracker.status();
        assert_eq!(status.decisions.len(), MAX_DECISIONS);
        assert_eq!((status.decisions[0].from, status.decisions[0].to), (49, 50));
        assert_eq!(status.observed_generation, Some(3));
    }

    #[test]
    fn calm_decisions_do_not_push_out_a_change_of_replicas() {
        let mut tracker = StatusTracker::default();
        tracker.decided(at(0), None, &record(), Counts { from: 1, to: 2, current: 1, ready: 1 });
        let mut calm = record();
        for second in 1..100 {
            calm.decision.reason = if second % 2 == 0 { Reason::Steady } else { Reason::WithinTolerance };
            tracker.decided(at(second), None, &calm, SAME);
        }
        let decisions = &tracker.status().decisions;
        assert_eq!(decisions.len(), 2, "{decisions:?}");
        assert_eq!((decisions[1].from, decisions[1].to), (1, 2));
        assert_eq!(decisions[0].time, at(99).to_string());
        assert!(decisions.iter().all(|decision| !decision.explanation.is_empty()));
    }

    #[test]
    fn what_cannot_be_seen_is_not_known_any_more() {
        let mut tracker = StatusTracker::default();
        tracker.decided(at(0), None, &record(), SAME);
        assert!(tracker.failed(at(5), None, "TargetNotFound", "it is gone"));
        let status = tracker.status();
        assert_eq!((status.desired_replicas, status.current_replicas, status.ready_replicas), (0, 0, 0));
        for condition in &status.conditions {
            let wanted = if condition.type_ == "AbleToScale" { "False" } else { "Unknown" };
            assert_eq!((condition.status.as_str(), condition.reason.as_str()), (wanted, "TargetNotFound"));
            assert!(condition.message.contains("it is gone"), "{condition:?}");
        }
        assert_eq!(status.conditions.len(), 7);
        assert!(!tracker.failed(at(6), None, "TargetNotFound", "it is gone"));
        // The target goes on without an autoscaler.
        let mut stopped = StatusTracker::default();
        stopped.decided(at(0), None, &record(), SAME);
        stopped.failed(at(5), None, "Stopped", "x");
        assert!(stopped.status().conditions.iter().all(|condition| condition.status != "Unknown"));
    }

    #[test]
    fn a_condition_keeps_the_time_of_its_transition() {
        let mut tracker = StatusTracker::default();
        assert!(tracker.failed(at(1), None, "TargetNotFound", "a"));
        assert!(!tracker.failed(at(2), None, "TargetNotFound", "a"));
        assert_eq!(tracker.status().conditions[0].last_transition_time, Time(at(1)));
        let mut resumed = StatusTracker::resume(tracker.status().clone());
        resumed.failed(at(9), None, "TargetNotFound", "a");
        assert_eq!(resumed.status().conditions[0].last_transition_time, Time(at(1)));
    }
}
