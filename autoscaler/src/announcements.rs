//! What is worth telling whoever watches an object's events: that replicas changed, and that something
//! began to stand in the way. Told when it begins, not while it lasts (pure).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use sluice_config::api::InferenceAutoscaler;
use sluice_scaling_policy::{Cause, ConditionType, Decision, HoldReason};

/// Something that comes and goes at each tick is told at most this often, milliseconds.
const SAME_EVERY_MS: u64 = 60_000;
/// Event of replicas that cannot become ready.
const NOT_READY: &str = "ReplicasNotReady";
/// Troubles that a decision can be made in spite of.
const LASTING: [&str; 4] = ["CapacityLimited", "MetricsMissing", NOT_READY, UNLOGGED];

/// Whether a reason of the condition `Ready` calls for somebody: replicas that start or wait do not.
fn is_failure(reason: &str) -> bool {
    let named = serde_json::from_value::<Cause>(serde_json::Value::from(reason));
    named.is_ok_and(Cause::is_failure)
}

/// Whether a reason of the condition `AbleToScale` names somebody else who is in the way.
fn is_hold(reason: &str) -> bool {
    HoldReason::ALL.iter().any(|hold| hold.name() == reason)
}

/// A decision log cannot be written.
const UNLOGGED: &str = "DecisionLogUnwritable";

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Announcement {
    /// Whether somebody should look.
    pub is_warning: bool,
    /// One CamelCase word.
    pub reason: String,
    /// What was tried. Events of the same reason and action are counted as one, with the first one's message.
    pub action: String,
    /// One sentence.
    pub message: String,
}

/// Where announcements go.
pub(crate) trait Announcer: Send + Sync {
    /// Tells it, soon; it does not wait until it was told.
    fn announce(&self, object: &InferenceAutoscaler, announcement: Announcement);
}

/// On one machine there are no events: the log and the status say the same.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Silent;

impl Announcer for Silent {
    fn announce(&self, _object: &InferenceAutoscaler, _announcement: Announcement) {}
}

/// What was announced of one object.
#[derive(Debug, Default)]
pub(crate) struct Announcements {
    /// What stood in the way when it was looked at last.
    troubles: BTreeMap<String, bool>,
    told_ms: BTreeMap<String, u64>,
    /// When metrics were first found missing, while they never were there.
    never_fresh_since_ms: Option<u64>,
}

impl Announcements {
    /// Continues after a restart: what the object's conditions say already is not told again.
    pub(crate) fn resume(conditions: &[Condition]) -> Self {
        let mut troubles = BTreeMap::new();
        for condition in conditions {
            let is_true = condition.status == "True";
            match condition.type_.as_str() {
                "CapacityLimited" => troubles.insert("CapacityLimited".to_owned(), is_true),
                "MetricsFresh" if condition.status != "Unknown" => {
                    troubles.insert("MetricsMissing".to_owned(), !is_true)
                }
                "Ready" => troubles.insert(NOT_READY.to_owned(), !is_true && is_failure(&condition.reason)),
                "AbleToScale" if !is_true => troubles.insert(condition.reason.clone(), true),
                _ => None,
            };
        }
        Self { troubles, ..Self::default() }
    }

    /// After a decision that was made from what could be seen.
    pub(crate) fn decided(&mut self, now_ms: u64, decision: &Decision) -> Vec<Announcement> {
        let condition =
            |wanted: ConditionType| decision.conditions.iter().find(|condition| condition.r#type == wanted);
        let held = condition(ConditionType::AbleToScale)
            .filter(|condition| !condition.status && is_hold(&condition.reason));
        // A decision could be made: whatever prevented it is over.
        self.troubles.retain(|trouble, _| {
            LASTING.contains(&trouble.as_str()) || held.is_some_and(|condition| condition.reason == *trouble)
        });
        let held =
            held.and_then(|condition| self.begins(now_ms, &condition.reason, "Scale", &condition.message));
        let limited = condition(ConditionType::CapacityLimited)
            .filter(|condition| condition.status)
            .and_then(|condition| self.begins(now_ms, "CapacityLimited", "Scale", &condition.message));
        let missing = condition(ConditionType::MetricsFresh)
            .filter(|condition| !condition.status && self.were_or_should_be_there(now_ms))
            .and_then(|condition| self.begins(now_ms, "MetricsMissing", "Measure", &condition.message));
        let failing = condition(ConditionType::Ready)
            .filter(|condition| !condition.status && is_failure(&condition.reason))
            .and_then(|condition| self.begins(now_ms, NOT_READY, "Start", &condition.message));
        for (trouble, wanted, status) in [
            (NOT_READY, ConditionType::Ready, true),
            ("CapacityLimited", ConditionType::CapacityLimited, false),
            ("MetricsMissing", ConditionType::MetricsFresh, true),
        ] {
            if condition(wanted).is_some_and(|condition| condition.status == status) {
                self.troubles.insert(trouble.to_owned(), false);
            }
        }
        [held, limited, missing, failing].into_iter().flatten().collect()
    }

    /// After no decision could be made.
    pub(crate) fn failed(&mut self, now_ms: u64, reason: &str, message: &str) -> Option<Announcement> {
        self.begins(now_ms, reason, "Decide", message)
    }

    /// After a decision was written down, or could not be for this reason.
    pub(crate) fn unlogged(&mut self, now_ms: u64, why: Option<&str>) -> Option<Announcement> {
        match why {
            Some(why) => self.begins(now_ms, UNLOGGED, "Log", why),
            None => {
                self.troubles.remove(UNLOGGED);
                None
            }
        }
    }

    /// Whether missing metrics are worth telling: a target whose first replica has just been asked for has
    /// none yet.
    fn were_or_should_be_there(&mut self, now_ms: u64) -> bool {
        if self.troubles.contains_key("MetricsMissing") {
            return true;
        }
        now_ms.saturating_sub(*self.never_fresh_since_ms.get_or_insert(now_ms)) >= SAME_EVERY_MS
    }

    /// Something stands in the way; told when it did not before.
    fn begins(&mut self, now_ms: u64, reason: &str, action: &str, message: &str) -> Option<Announcement> {
        if self.troubles.insert(reason.to_owned(), true) == Some(true) {
            return None;
        }
        let told = self.told_ms.get(reason);
        if told.is_some_and(|told_ms| now_ms.saturating_sub(*told_ms) < SAME_EVERY_MS) {
            return None;
        }
        self.told_ms.insert(reason.to_owned(), now_ms);
        Some(Announcement {
            is_warning: true,
            reason: reason.to_owned(),
            action: action.to_owned(),
            message: message.to_owned(),
        })
    }
}

/// Replicas were changed.
pub(crate) fn rescaled(decision: &Decision, from: u32, to: u32) -> Announcement {
    Announcement {
        is_warning: false,
        reason: "Rescaled".to_owned(),
        action: format!("ScaleFrom{from}To{to}"),
        message: decision.message.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_scaling_policy::{
        Current, Findings, Free, Input, Objective, Signals, Spec, Standing, State, Windows, decide,
    };

    /// A decision without any metrics; `free` = slices.
    fn decision() -> Decision {
        decide(&Input {
            now_ms: 1000,
            spec: Spec {
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
            },
            current: Current { replicas: 1, ready: 1 },
            signals: Signals::default(),
            free: Free { slices: Some(2), reason: String::new() },
            standing: Standing::default(),
            findings: Findings::default(),
            state: State::default(),
        })
    }

    fn with(fresh: bool) -> Decision {
        let mut decision = decision();
        for condition in &mut decision.conditions {
            if condition.r#type == ConditionType::MetricsFresh {
                condition.status = fresh;
            }
        }
        decision
    }

    #[test]
    fn what_stands_in_the_way_is_told_when_it_begins_and_not_while_it_lasts() {
        let mut told = Announcements::default();
        assert!(told.decided(0, &with(true)).is_empty());
        let first = told.decided(0, &with(false));
        assert_eq!(first.iter().map(|one| one.reason.as_str()).collect::<Vec<_>>(), ["MetricsMissing"]);
        assert!(first[0].is_warning);
        assert!(told.decided(1000, &with(false)).is_empty());
        assert!(told.decided(2000, &with(true)).is_empty());
        assert!(told.decided(3000, &with(false)).is_empty(), "again so soon: once is enough");
        assert!(told.decided(4000, &with(true)).is_empty());
        assert_eq!(told.decided(61_000, &with(false)).len(), 1);
    }

    #[test]
    fn metrics_that_never_were_there_are_told_after_a_while() {
        let mut told = Announcements::default();
        assert!(told.decided(0, &with(false)).is_empty());
        assert!(told.decided(59_999, &with(false)).is_empty());
        assert_eq!(told.decided(60_000, &with(false)).len(), 1);
        assert!(told.decided(61_000, &with(false)).is_empty());
    }

    #[test]
    fn a_new_leader_does_not_tell_again_what_the_conditions_say() {
        let condition = |type_: &str, status: &str, reason: &str| Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
                jiff::Timestamp::UNIX_EPOCH,
            ),
        };
        let mut told = Announcements::resume(&[condition("MetricsFresh", "False", "MetricsMissing")]);
        assert!(told.decided(0, &with(false)).is_empty());
        let mut told = Announcements::resume(&[condition("AbleToScale", "False", "TargetNotFound")]);
        assert_eq!(told.failed(0, "TargetNotFound", "x"), None);
        assert!(told.failed(0, "PlatformUnavailable", "x").is_some());
    }

    #[test]
    fn replicas_that_cannot_start_are_told_once_and_those_that_start_are_not() {
        let not_ready = |reason: &str| {
            let mut decision = with(true);
            for condition in &mut decision.conditions {
                if condition.r#type == ConditionType::Ready {
                    condition.status = false;
                    condition.reason = reason.to_owned();
                }
            }
            decision
        };
        let mut told = Announcements::default();
        assert!(told.decided(0, &not_ready("ReplicasStarting")).is_empty());
        assert!(told.decided(0, &not_ready("SchedulingGated")).is_empty());
        let first = told.decided(0, &not_ready("CrashLoopBackOff"));
        assert_eq!(first.iter().map(|one| one.reason.as_str()).collect::<Vec<_>>(), [NOT_READY]);
        assert!(told.decided(100_000, &not_ready("CrashLoopBackOff")).is_empty(), "it lasts");
        told.decided(101_000, &with(true));
        assert_eq!(told.decided(200_000, &not_ready("FailedCreate")).len(), 1);
    }

    #[test]
    fn a_log_that_cannot_be_written_is_told_once_however_many_decisions_are_made() {
        let mut told = Announcements::default();
        let first = told.unlogged(0, Some("x")).unwrap();
        assert_eq!((first.reason.as_str(), first.is_warning), ("DecisionLogUnwritable", true));
        for second in 1..200 {
            told.decided(second * 1000, &with(true));
            assert_eq!(told.unlogged(second * 1000, Some("x")), None);
        }
        assert_eq!(told.unlogged(200_000, None), None);
        assert!(told.unlogged(201_000, Some("x")).is_some(), "it was over in between");
    }

    #[test]
    fn a_failure_is_over_once_a_decision_was_made() {
        let mut told = Announcements::default();
        assert!(told.failed(0, "TargetNotFound", "x").is_some());
        assert!(told.failed(1000, "TargetNotFound", "x").is_none());
        told.decided(2000, &with(true));
        assert!(told.failed(100_000, "TargetNotFound", "x").is_some());
    }
}
