//! Builds the conditions, in the HPA's vocabulary, so that dashboards and people understand them without a manual.
use super::Proposal;
use super::need::Wanted;
use super::ready::ready;
use super::rollout::RolloutStatus;
use crate::decision::{CapacityLimited, Condition, ConditionType, Reason};
use crate::demand::Demand;
use crate::findings::HoldReason;
use crate::input::Input;

pub(super) fn all(
    input: &Input,
    demand: Option<&Demand>,
    wanted: &Wanted,
    proposal: &Proposal,
    limited: Option<&CapacityLimited>,
    rollout_status: RolloutStatus,
) -> Vec<Condition> {
    vec![
        able(wanted, proposal),
        active(input, wanted),
        limited_by(input, wanted, proposal, limited),
        fresh(input, demand),
        capacity(input, limited, rollout_status),
        ready(input),
        condition(
            ConditionType::DryRun,
            input.spec.dry_run,
            if input.spec.dry_run { "DryRunRequested" } else { "Applying" },
            if input.spec.dry_run {
                "Decisions are recorded and not applied."
            } else {
                "Decisions are applied."
            },
        ),
    ]
}

fn condition(r#type: ConditionType, status: bool, reason: &str, message: impl Into<String>) -> Condition {
    Condition { r#type, status, reason: reason.to_owned(), message: message.into() }
}

fn able(wanted: &Wanted, proposal: &Proposal) -> Condition {
    let is_stopped = matches!(proposal.reason, Reason::Paused | Reason::InvalidSpec);
    if let Some(reason) = conflict(wanted.reason).filter(|_| !is_stopped) {
        return condition(ConditionType::AbleToScale, false, &reason, sentence(&wanted.note));
    }
    let (status, reason, message) = match proposal.reason {
        Reason::Paused => (false, "Paused", "Paused by the specification."),
        Reason::InvalidSpec => (false, "InvalidSpec", "The specification cannot be followed."),
        // The direction that was held shows which window it was, even where the replicas change.
        Reason::Stabilized if proposal.replicas >= wanted.replicas => {
            (true, "ScaleDownStabilized", "Recent recommendations were higher.")
        }
        Reason::Stabilized => (true, "ScaleUpStabilized", "Recent recommendations were lower."),
        Reason::ObjectiveMissed => {
            (true, "ObjectiveMissed", "Recent requests missed the objective too often for fewer replicas.")
        }
        _ => (true, "ReadyForNewScale", "The target can be scaled."),
    };
    condition(ConditionType::AbleToScale, status, reason, message)
}

/// Returns the condition's reason where another controller is in the way.
fn conflict(reason: Reason) -> Option<String> {
    HoldReason::ALL.into_iter().find(|hold| hold.as_reason() == reason).map(HoldReason::name)
}

fn active(input: &Input, wanted: &Wanted) -> Condition {
    let of = |status, reason, message: &str| condition(ConditionType::ScalingActive, status, reason, message);
    if let Some(reason) = conflict(wanted.reason) {
        return of(false, &reason, &sentence(&wanted.note));
    }
    match wanted.reason {
        Reason::MetricsMissing if input.current.ready == 0 && input.current.replicas > 0 => {
            let note = format!("{}: no replica is ready; the condition Ready says why", wanted.note);
            of(false, "MetricsMissing", &sentence(&note))
        }
        Reason::MetricsMissing => of(false, "MetricsMissing", &sentence(&wanted.note)),
        Reason::LearningCurve if input.current.ready == 0 => of(
            false,
            "NoReplicaReady",
            "No replica is ready, so the service curve cannot be learned; the condition Ready says why.",
        ),
        Reason::ScalingDisabled => of(false, "ScalingDisabled", &sentence(&wanted.note)),
        Reason::LearningCurve => of(false, "LearningCurve", "The service curve is not known yet."),
        Reason::InvalidSpec => of(false, "InvalidSpec", &sentence(&wanted.note)),
        Reason::ObjectiveImpossible => of(
            true,
            "ObjectiveImpossible",
            "One row alone takes longer than the objective: no number of replicas meets it.",
        ),
        Reason::ToZero => of(true, "ScaledToZero", "There is no demand."),
        _ => of(
            true,
            "ValidMetricFound",
            "Replicas follow from measured demand and the learned service curve.",
        ),
    }
}

fn limited_by(
    input: &Input,
    wanted: &Wanted,
    proposal: &Proposal,
    limited: Option<&CapacityLimited>,
) -> Condition {
    let of =
        |status, reason, message: &str| condition(ConditionType::ScalingLimited, status, reason, message);
    if limited.is_some() && input.free.slices.is_none() {
        return of(true, "CapacityUnknown", "More replicas are wanted, and how many fit is not known.");
    }
    if limited.is_some() {
        return of(true, "CapacityLimited", "Fewer slices are free than wanted.");
    }
    match proposal.reason {
        Reason::AtMaximum => of(true, "TooManyReplicas", "More replicas are wanted than maxReplicas."),
        Reason::AtMinimum => of(true, "TooFewReplicas", "Fewer replicas are wanted than minReplicas."),
        Reason::ReplicasFailing if wanted.replicas > proposal.replicas => {
            of(true, "ReplicasFailing", "As many replicas fail to start as are ready: no more are asked for.")
        }
        Reason::RolloutLowered => of(true, "RolloutLowered", "A rollout needs the slice of one replica."),
        Reason::RateLimited if proposal.replicas < input.current.replicas => {
            of(true, "ScaleDownLimit", "A scale-down policy limits the change.")
        }
        Reason::RateLimited => of(true, "ScaleUpLimit", "A scale-up policy limits the change."),
        _ => of(false, "DesiredWithinRange", "The wanted number is within its bounds."),
    }
}

fn fresh(input: &Input, demand: Option<&Demand>) -> Condition {
    let of = |status, reason, message: &str| condition(ConditionType::MetricsFresh, status, reason, message);
    let second = input.signals.second_source.len();
    match demand {
        Some(demand) if demand.complete && second > 0 => {
            let message =
                format!("Every batcher was read recently, {second} of them from the second source.");
            of(true, "SecondSource", &message)
        }
        Some(demand) if demand.complete => of(true, "MetricsFresh", "Every batcher was read recently."),
        Some(_) => {
            of(false, "SomeMetricsStale", "A batcher's demand is stale or not a number; no scale-down.")
        }
        None => of(false, "MetricsMissing", "No batcher's demand is known; replicas are held."),
    }
}

fn capacity(input: &Input, limited: Option<&CapacityLimited>, rollout_status: RolloutStatus) -> Condition {
    let of =
        |status, reason, message: String| condition(ConditionType::CapacityLimited, status, reason, message);
    match rollout_status {
        RolloutStatus::Stalled(reason) => {
            let message = format!("{} {}", rollout_waits(input), reason.message(input));
            return of(true, "RolloutWaitsForSlice", message);
        }
        RolloutStatus::Lowered => {
            let message = "A rollout has the slice of one replica, for all slices are taken. The replicas may grow \
                           again when it is over.";
            return of(true, "RolloutLowered", message.to_owned());
        }
        RolloutStatus::Fine => {}
    }
    let waiting = input.standing.without_slice;
    match (limited, input.free.slices) {
        (None, Some(0)) if waiting > 0 => of(
            true,
            "ReplicasWaitForSlice",
            format!(
                "{waiting} {} for a slice, and none is free. {}",
                if waiting == 1 { "pod waits" } else { "pods wait" },
                sentence(&input.free.reason)
            ),
        ),
        (Some(limited), None) => of(true, "CapacityUnknown", sentence(&limited.reason)),
        (Some(limited), Some(_)) => of(
            true,
            "TooFewFreeSlices",
            format!(
                "{} replicas are wanted, {} more fit. {}",
                limited.wanted,
                limited.free,
                sentence(&limited.reason)
            ),
        ),
        (None, None) => of(false, "CapacityUnknown", sentence(&input.free.reason)),
        (None, Some(0)) => of(
            false,
            "NoSliceFree",
            format!("No more replicas are wanted, and none would fit. {}", sentence(&input.free.reason)),
        ),
        (None, Some(free)) if input.standing.failing() > 0 => of(
            false,
            "SlicesFree",
            format!("{free} more slices are free, but replicas fail to start; the condition Ready says why."),
        ),
        (None, Some(free)) => of(false, "SlicesFree", format!("{free} more replicas fit.")),
    }
}

/// Describes the pod that waits, and the pods that it waits for.
fn rollout_waits(input: &Input) -> String {
    let Some(rollout) = &input.standing.rollout else { return String::new() };
    let pod = rollout.waiting.as_ref().map(|waiting| waiting.pod.as_str()).unwrap_or_default();
    format!(
        "The rollout of revision {} waits: its new pod {pod} has no slice, and its own {} keep theirs until it is ready.",
        rollout.revision,
        if rollout.old == 1 { "old pod".to_owned() } else { format!("{} old pods", rollout.old) },
    )
}

/// Turns a note into a sentence.
fn sentence(note: &str) -> String {
    let mut letters = note.chars();
    let first = letters.next().map(|c| c.to_uppercase().collect::<String>()).unwrap_or_default();
    format!("{first}{}{}", letters.as_str(), if note.ends_with('.') { "" } else { "." })
}
