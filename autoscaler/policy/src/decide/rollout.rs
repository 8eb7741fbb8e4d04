//! Lowers the replicas for a rollout that needs a slice while its own old pods hold them all.
//!
//! A Deployment with `maxSurge: 1` and `maxUnavailable: 0` starts a new pod before it removes an old one. On a full
//! cluster the new pod waits for a slice that only an old pod could give back, for ever. One replica fewer makes the
//! Deployment remove one pod: of its ReplicaSets the largest shrinks, which is an old one at first; where it is the new
//! one, the pod that waits goes, and then there is one more available than the Deployment must keep. Either way an old
//! pod's slice is free for a new pod, and all further steps go on with it.
use super::need::Wanted;
use super::{Proposal, limits};
use crate::behavior::SelectPolicy;
use crate::decision::Reason;
use crate::input::Input;
use crate::standing::{Rollout, Surrender};
use crate::state::{Lowered, State};

/// Time after which a waiting new pod counts as a stalled rollout, milliseconds. Slices that are being given back take
/// less.
const STALLED_AFTER_MS: u64 = 10_000;
/// Maximum time that replicas are kept from growing for one rollout, milliseconds. A rollout that takes longer is stuck.
const MAX_LOWERED_MS: u64 = 1_800_000;

/// State of a rollout, as far as the autoscaler is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RolloutStatus {
    /// No rollout is in progress, or it needs nothing of the autoscaler.
    Fine,
    /// The replicas are lowered by one while it lasts.
    Lowered,
    /// It waits for a slice that its own old pods hold.
    Stalled(StallReason),
}

/// Reason why the replicas are not lowered for a stalled rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StallReason {
    /// There would be fewer than `minReplicas`.
    Minimum,
    /// The load needs all replicas.
    Load,
    /// Demand or service curve are not known.
    NeedUnknown,
    /// `behavior.scaleDown` allows no change now.
    Policy,
    /// The replicas were lowered for this rollout before, and another pod has taken the slice.
    LoweredBefore,
    /// The specification is paused, or in a dry run.
    NotApplied,
    /// Its user has paused the rollout.
    Paused,
    /// It is not known whether this kind would remove an old pod.
    KindUnknown,
}

/// Lowers the replicas by one for a stalled rollout, once for each, and keeps them there until it is over.
pub(super) fn give_way(
    input: &Input,
    wanted: &Wanted,
    minimum: u32,
    state: &mut State,
    proposal: &mut Proposal,
) -> RolloutStatus {
    let current = input.current.replicas;
    let Some(rollout) = &input.standing.rollout else {
        state.lowered = None;
        return RolloutStatus::Fine;
    };
    state.lowered.take_if(|lowered| lowered.revision != rollout.revision);
    if let Some(lowered) = &mut state.lowered {
        lowered.was_applied |= current < lowered.from;
        if lowered.was_applied {
            let lasts = input.now_ms.saturating_sub(lowered.at_ms) < MAX_LOWERED_MS;
            if !rollout.is_failing && lasts {
                if proposal.replicas > current {
                    proposal.cut(proposal.replicas.min(current.max(minimum)), Reason::RolloutLowered);
                }
                return RolloutStatus::Lowered;
            }
            return if is_stalled(input, rollout) {
                RolloutStatus::Stalled(StallReason::LoweredBefore)
            } else {
                RolloutStatus::Fine
            };
        }
    }
    if !is_stalled(input, rollout) || proposal.replicas < current {
        return RolloutStatus::Fine;
    }
    if let Some(keeps) = stall_reason(input, rollout, wanted, state) {
        return RolloutStatus::Stalled(keeps);
    }
    proposal.cut(current - 1, Reason::RolloutLowered);
    state.lowered = Some(Lowered {
        revision: rollout.revision.clone(),
        from: current,
        at_ms: input.now_ms,
        was_applied: false,
    });
    RolloutStatus::Lowered
}

/// Returns whether a new pod waits for a slice that only old pods of the same target could give back.
fn is_stalled(input: &Input, rollout: &Rollout) -> bool {
    let waits = rollout
        .waiting
        .as_ref()
        .is_some_and(|waiting| input.now_ms.saturating_sub(waiting.since_ms) >= STALLED_AFTER_MS);
    waits
        && !rollout.is_failing
        && input.standing.without_slice > 0
        && rollout.old > 0
        && rollout.leaving == 0
        && rollout.surrender != Surrender::ByItself
}

/// Returns the reason not to lower the replicas; `None` where they may be lowered.
fn stall_reason(input: &Input, rollout: &Rollout, wanted: &Wanted, state: &State) -> Option<StallReason> {
    let current = input.current.replicas;
    let fewer = current.saturating_sub(1);
    let down = &input.spec.behavior.scale_down;
    Some(match rollout.surrender {
        Surrender::Paused => StallReason::Paused,
        Surrender::Unknown => StallReason::KindUnknown,
        _ if input.spec.paused || input.spec.dry_run => StallReason::NotApplied,
        _ if fewer < input.spec.min_replicas.max(1) => StallReason::Minimum,
        _ if !wanted.measured || is_new(input) => StallReason::NeedUnknown,
        _ if wanted.replicas >= current => StallReason::Load,
        _ if down.select_policy == SelectPolicy::Disabled || limits::rate(input, state, fewer) > fewer => {
            StallReason::Policy
        }
        _ => return None,
    })
}

/// Returns whether demand has not been seen for a whole window yet, as after a restart.
fn is_new(input: &Input) -> bool {
    input
        .state
        .since_ms
        .is_none_or(|since_ms| input.now_ms.saturating_sub(since_ms) < input.spec.windows.demand_ms)
}

impl StallReason {
    /// Returns what is in the way and what to do, in whole sentences.
    pub(super) fn message(self, input: &Input) -> String {
        let replicas = input.current.replicas;
        let why = match self {
            Self::Minimum => format!("{replicas} replicas are minReplicas, so none is given up for it."),
            Self::Load => format!("The load needs all {replicas} replicas, so none is given up for it."),
            Self::NeedUnknown => {
                "Whether the load needs all replicas is not known, so none is given up for it.".to_owned()
            }
            Self::Policy => "behavior.scaleDown allows no replica fewer now.".to_owned(),
            Self::LoweredBefore => {
                "One replica was given up for it, and its slice has gone to another pod.".to_owned()
            }
            Self::NotApplied => {
                "Nothing is changed while spec.paused or spec.dryRun is set, so no replica is given up."
                    .to_owned()
            }
            Self::Paused => return "The rollout is paused; resume it (kubectl rollout resume).".to_owned(),
            Self::KindUnknown => "Whether this kind would remove an old pod is not known.".to_owned(),
        };
        format!(
            "{why} To let it go on, set maxUnavailable: 1 and maxSurge: 0 in its strategy, or free a slice."
        )
    }
}
