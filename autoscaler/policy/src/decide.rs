//! Stages of a decision, in order.
mod conditions;
mod held;
mod limits;
mod need;
mod ready;
mod rollout;
mod words;

use crate::decision::{CapacityLimited, Decision, Reason, Steps};
use crate::demand;
use crate::input::Input;
use held::Held;
use need::Wanted;

/// Decides how many replicas to ask for. The same input gives the same decision, bit for bit.
///
/// Order: holds → demand → model → panic → stabilisation → rate policies → minimum and maximum → replicas that fail to
/// start → capacity → a rollout that needs a slice. The last stage that changes or holds the number gives the
/// [`Reason`].
pub fn decide(input: &Input) -> Decision {
    let now_ms = input.now_ms;
    let current = input.current.replicas;
    let mut steps = Steps::default();
    let mut state = input.state.clone();
    if state.since_ms.is_none() {
        // As in the HPA, the replicas found count as the first recommendation, so that a restart of the
        // autoscaler never scales down at once.
        state.since_ms = Some(now_ms);
        state.recommend(now_ms, current);
    }
    let windows = &input.spec.windows;
    let demand = demand::measure(&input.signals.demand_rows, now_ms, windows, input.spec.startup_ms);
    let held = held::held(input, &mut state);
    let wanted = match (input.spec.invalid(), &held) {
        (Some(why), _) => Wanted::hold(current, Reason::InvalidSpec, why),
        (None, Some(held)) => Wanted::hold(current, held.reason, held.note.clone()),
        (None, None) => need::wanted(input, demand.as_ref(), &mut state, &mut steps),
    };
    let mut proposal =
        Proposal { replicas: wanted.replicas, reason: wanted.reason, note: wanted.note.clone() };
    // A hold is not a recommendation: a later window must not count it as measured.
    if wanted.measured {
        state.recommend(now_ms, wanted.replicas);
    }
    state.forget(now_ms, &input.spec);
    if wanted.measured && !wanted.urgent {
        let stabilized = limits::stabilize(input, &state, wanted.replicas);
        proposal.cut(stabilized, Reason::Stabilized);
    }
    steps.stabilized = Some(proposal.replicas);
    let limited_by_rate = limits::rate(input, &state, proposal.replicas);
    proposal.cut(limited_by_rate, Reason::RateLimited);
    steps.rate_limited = Some(proposal.replicas);
    let (minimum, maximum) = limits::bounds(&input.spec, wanted.to_zero || current == 0 && !wanted.from_zero);
    if proposal.replicas > maximum {
        proposal.cut(maximum, Reason::AtMaximum);
    } else if proposal.replicas < minimum {
        proposal.cut(minimum, Reason::AtMinimum);
    } else if proposal.replicas == maximum && wanted.replicas > maximum {
        proposal.reason = Reason::AtMaximum;
    }
    steps.bounded = Some(proposal.replicas);
    failing(input, minimum, &mut proposal);
    steps.failing = Some(proposal.replicas);
    let mut limited = capacity(input, minimum, &mut proposal);
    steps.capacity = Some(proposal.replicas);
    let rollout_status = rollout::give_way(input, &wanted, minimum, &mut state, &mut proposal);
    steps.rollout = Some(proposal.replicas);
    // Neither a pause nor bounds that contradict each other move anything.
    if wanted.reason == Reason::InvalidSpec {
        proposal = Proposal { replicas: current, reason: Reason::InvalidSpec, note: wanted.note.clone() };
    } else if input.spec.paused {
        proposal = Proposal { replicas: current, reason: Reason::Paused, note: String::new() };
    } else if let Some(Held { reason, note, is_frozen: true }) = held {
        proposal = Proposal { replicas: current, reason, note };
        limited = None;
    }
    state.replicas_left = Some(current);
    let apply = proposal.replicas != current && !input.spec.paused && !input.spec.dry_run;
    let conditions =
        conditions::all(input, demand.as_ref(), &wanted, &proposal, limited.as_ref(), rollout_status);
    let message = words::message(input, &steps, &proposal, limited.as_ref());
    Decision {
        desired: proposal.replicas,
        apply,
        reason: proposal.reason,
        message,
        limited,
        conditions,
        steps,
        state,
    }
}

/// Number of replicas so far, and the stage that it comes from.
#[derive(Debug, Clone)]
pub(crate) struct Proposal {
    pub(crate) replicas: u32,
    pub(crate) reason: Reason,
    pub(crate) note: String,
}

impl Proposal {
    fn cut(&mut self, replicas: u32, reason: Reason) {
        if replicas != self.replicas {
            self.replicas = replicas;
            self.reason = reason;
        }
    }
}

/// Allows no growth while at least as many replicas fail to start as are ready: more of them would not help. While fewer
/// fail, as on one broken node, growth goes on. The minimum holds in any case.
fn failing(input: &Input, minimum: u32, proposal: &mut Proposal) {
    let (current, failing) = (input.current.replicas, input.standing.failing());
    if proposal.replicas > current && failing > 0 && failing >= input.current.ready {
        proposal.cut(proposal.replicas.min(current.max(minimum)), Reason::ReplicasFailing);
    }
    // Replicas that do not start cannot be measured, so that is the reason to show.
    let is_blind = matches!(proposal.reason, Reason::LearningCurve | Reason::MetricsMissing);
    if is_blind && failing > 0 && input.current.ready == 0 {
        *proposal =
            Proposal { replicas: proposal.replicas, reason: Reason::ReplicasFailing, note: String::new() };
    }
}

/// Limits the replicas to the current ones plus the free slices. Unknown capacity allows no growth, except for the first
/// replica where only its pod can show what a replica claims.
fn capacity(input: &Input, minimum: u32, proposal: &mut Proposal) -> Option<CapacityLimited> {
    let current = input.current.replicas;
    let all_free = input.free.slices.unwrap_or(0);
    // The slice of a rollout's next step is not free for growth beyond the minimum.
    let reserve = input.standing.rollout.as_ref().map_or(0, |rollout| rollout.reserve);
    let below_minimum = minimum.saturating_sub(current).min(all_free);
    let free = all_free.saturating_sub(reserve).max(below_minimum);
    let is_first = input.free.slices.is_none() && input.findings.first_replica_tells;
    let most = current.saturating_add(free).max(u32::from(is_first));
    if proposal.replicas <= most {
        return None;
    }
    let limited = CapacityLimited {
        profile: input.spec.profile.clone(),
        wanted: proposal.replicas,
        free,
        reason: input.free.reason.clone(),
    };
    let known = input.free.slices.is_some();
    proposal.cut(most, if known { Reason::CapacityLimited } else { Reason::CapacityUnknown });
    Some(limited)
}
