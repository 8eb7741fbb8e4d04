//! Explains a decision in one sentence, with its numbers.
use super::Proposal;
use crate::decision::{CapacityLimited, Reason, Steps};
use crate::input::Input;

pub(super) fn message(
    input: &Input,
    steps: &Steps,
    proposal: &Proposal,
    limited: Option<&CapacityLimited>,
) -> String {
    let (current, desired) = (input.current.replicas, proposal.replicas);
    let change = match desired.cmp(&current) {
        std::cmp::Ordering::Equal => format!("Holding {current}"),
        std::cmp::Ordering::Greater => format!("Scaling up from {current} to {desired}"),
        std::cmp::Ordering::Less => format!("Scaling down from {current} to {desired}"),
    };
    let note = if proposal.note.is_empty() { String::new() } else { format!(" ({})", proposal.note) };
    let why = match proposal.reason {
        Reason::Steady => "that is what demand needs".to_owned(),
        Reason::WithinTolerance => "the need is within the tolerance".to_owned(),
        Reason::DemandRose | Reason::DemandFell => need(input, steps),
        Reason::Panic => format!(
            "a burst of {} rows/s exceeds what there is; no scale-down until it is over",
            rows(steps.burst_rows_per_second)
        ),
        Reason::FromZero => "requests are waiting and there is no replica".to_owned(),
        Reason::ToZero => "there was no demand for long enough".to_owned(),
        Reason::Stabilized if desired == current => "a stabilisation window holds it".to_owned(),
        Reason::Stabilized => "a stabilisation window allows no further".to_owned(),
        Reason::ObjectiveMissed => "the objective is missed too often for fewer replicas".to_owned(),
        Reason::RateLimited => "a rate policy limits the change".to_owned(),
        Reason::AtMinimum => "minReplicas is reached".to_owned(),
        Reason::AtMaximum => "maxReplicas is reached".to_owned(),
        Reason::CapacityLimited => limited.map_or_else(String::new, |limited| {
            format!("{} are wanted and {} more fit: {}", limited.wanted, limited.free, limited.reason)
        }),
        Reason::RolloutLowered => {
            "a rollout needs the slice of one replica, and has it until the rollout is over".to_owned()
        }
        Reason::ReplicasFailing => format!(
            "more would not help: of those that there are {} cannot start and {} are ready",
            input.standing.failing(),
            input.current.ready
        ),
        Reason::CapacityUnknown => limited.map_or_else(String::new, |limited| {
            format!("{} are wanted, and how many fit is not known: {}", limited.wanted, limited.reason)
        }),
        Reason::MetricsMissing => "metrics are missing".to_owned(),
        Reason::LearningCurve => "the service curve is not known yet".to_owned(),
        Reason::ObjectiveImpossible => format!(
            "no number of replicas meets {} ms, one row alone takes longer; enough not to be saturated",
            input.spec.objective.latency_ms
        ),
        Reason::Paused => "paused".to_owned(),
        Reason::ScalingDisabled => "scaling is switched off".to_owned(),
        Reason::AmbiguousTarget => "another autoscaler scales the target too".to_owned(),
        Reason::AmbiguousSelector => "pods cannot be told from those of others".to_owned(),
        Reason::ScaleContested => "others set the replicas back again and again".to_owned(),
        Reason::InvalidSpec => "the specification cannot be followed".to_owned(),
    };
    format!("{change}: {why}{note}.")
}

fn need(input: &Input, steps: &Steps) -> String {
    format!(
        "{} rows/s need {:.2} replicas of {} rows/s each for the {} % quantile within {} ms",
        rows(steps.demand_rows_per_second),
        steps.need.unwrap_or(0.0),
        rows(steps.capacity_per_replica_rows_per_second),
        input.spec.objective.quantile * 100.0,
        input.spec.objective.latency_ms
    )
}

/// Formats rows per second with one digit after the point.
fn rows(value: Option<f64>) -> String {
    value.map_or_else(|| "?".to_owned(), |value| format!("{value:.1}"))
}
