//! Holds: reasons to keep the replicas as they are before demand is considered.
use crate::decision::Reason;
use crate::findings::HoldReason;
use crate::input::Input;
use crate::state::State;

/// A hold and its extent.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) reason: Reason,
    /// Explanation, for people: who or what holds, and what to do.
    pub(super) note: String,
    /// Whether nothing is written at all, not even to keep the bounds.
    pub(super) is_frozen: bool,
}

/// Returns the strongest hold; `None` where nothing holds the replicas.
pub(super) fn held(input: &Input, state: &mut State) -> Option<Held> {
    let is_off = is_off(input, state);
    // A dry run writes nothing, so it cannot fight another autoscaler, and its user wants the recommendation.
    let counts = |reason| reason == HoldReason::AmbiguousSelector || !input.spec.dry_run;
    let found = input.findings.hold.as_ref().filter(|hold| counts(hold.reason));
    let of = |hold: &crate::findings::Hold, is_frozen| Held {
        reason: hold.reason.as_reason(),
        note: hold.message.clone(),
        is_frozen,
    };
    match found {
        Some(hold) if hold.reason != HoldReason::AmbiguousSelector => Some(of(hold, true)),
        _ if is_off => Some(Held {
            reason: Reason::ScalingDisabled,
            note: "its replicas were set to 0, which switches scaling off; set them to 1 or more to switch it on"
                .to_owned(),
            is_frozen: true,
        }),
        Some(hold) => Some(of(hold, false)),
        None => None,
    }
}

/// Returns whether others have set the replicas to zero although `minReplicas` allows no zero, which switches scaling off
/// as with the HPA. A target that never had a replica is not off: it waits for its first one.
fn is_off(input: &Input, state: &mut State) -> bool {
    let is_zero = input.current.replicas == 0;
    // With a minimum of zero, zero is an ordinary number.
    let may_be_off = is_zero && input.spec.min_replicas > 0 && input.findings.others_scale;
    let had_some = state.replicas_left.is_some_and(|replicas| replicas > 0);
    state.is_off = may_be_off && (state.is_off || had_some);
    state.is_off
}
