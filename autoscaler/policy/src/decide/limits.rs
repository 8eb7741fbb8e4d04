//! Stabilisation windows, rate policies and bounds, as in `autoscaling/v2`.
use crate::behavior::{PolicyType, ScalingPolicy, ScalingRules, SelectPolicy};
use crate::input::Input;
use crate::spec::Spec;
use crate::state::State;

/// Applies the stabilisation windows: at least the largest recommendation of the scale-down window, at most the smallest of
/// the scale-up window; between these the current replicas stay.
pub(super) fn stabilize(input: &Input, state: &State, wanted: u32) -> u32 {
    let current = input.current.replicas;
    let behavior = &input.spec.behavior;
    let within = |rules: &ScalingRules| {
        let window_ms = u64::from(rules.stabilization_window_seconds) * 1000;
        let inside =
            move |at_ms: u64| at_ms.saturating_add(window_ms) > input.now_ms || at_ms == input.now_ms;
        state.recommendations.iter().filter(move |r| inside(r.at_ms))
    };
    let up = within(&behavior.scale_up).map(|r| r.replicas).min().unwrap_or(wanted).min(wanted);
    let down = within(&behavior.scale_down).map(|r| r.replicas).max().unwrap_or(wanted).max(wanted);
    current.max(up).min(down.max(up))
}

/// Applies the rate policies of the direction of the change.
pub(super) fn rate(input: &Input, state: &State, wanted: u32) -> u32 {
    let current = input.current.replicas;
    if wanted > current {
        let rules = &input.spec.behavior.scale_up;
        let limit = limit(rules, |policy| {
            let start = at_period_start(input, state, policy);
            match policy.r#type {
                PolicyType::Pods => start.saturating_add(policy.value),
                PolicyType::Percent => percent(start, 100 + u64::from(policy.value), true),
            }
        });
        // From zero a percentage would never allow anything, so one replica is always allowed.
        let most = limit.most(rules.select_policy, current).max(u32::from(current == 0));
        wanted.min(most.max(current))
    } else if wanted < current {
        let rules = &input.spec.behavior.scale_down;
        let limit = limit(rules, |policy| {
            let start = at_period_start(input, state, policy);
            match policy.r#type {
                PolicyType::Pods => start.saturating_sub(policy.value),
                PolicyType::Percent => percent(start, u64::from(100_u32.saturating_sub(policy.value)), false),
            }
        });
        wanted.max(limit.least(rules.select_policy, current).min(current))
    } else {
        wanted
    }
}

/// Returns minimum and maximum of the replicas. `may_be_zero` = the decision is to be at zero.
pub(super) fn bounds(spec: &Spec, may_be_zero: bool) -> (u32, u32) {
    let zero = spec.scale_to_zero_after_seconds.is_some() && may_be_zero;
    let minimum = if zero { 0 } else { spec.min_replicas.max(1) };
    (minimum, spec.max_replicas.max(minimum))
}

/// Replicas that each policy allows; `None` = there is no policy, and so no limit.
struct Limit(Option<Vec<u32>>);

fn limit(rules: &ScalingRules, allows: impl Fn(&ScalingPolicy) -> u32) -> Limit {
    Limit((!rules.policies.is_empty()).then(|| rules.policies.iter().map(allows).collect()))
}

impl Limit {
    fn most(&self, select: SelectPolicy, current: u32) -> u32 {
        match (select, &self.0) {
            (SelectPolicy::Disabled, _) => current,
            (_, None) => u32::MAX,
            (SelectPolicy::Max, Some(limits)) => limits.iter().copied().max().unwrap_or(u32::MAX),
            (SelectPolicy::Min, Some(limits)) => limits.iter().copied().min().unwrap_or(u32::MAX),
        }
    }

    fn least(&self, select: SelectPolicy, current: u32) -> u32 {
        match (select, &self.0) {
            (SelectPolicy::Disabled, _) => current,
            (_, None) => 0,
            (SelectPolicy::Max, Some(limits)) => limits.iter().copied().min().unwrap_or(0),
            (SelectPolicy::Min, Some(limits)) => limits.iter().copied().max().unwrap_or(0),
        }
    }
}

/// Returns the replicas at the start of the policy's period: the current ones without the changes since.
fn at_period_start(input: &Input, state: &State, policy: &ScalingPolicy) -> u32 {
    let period_ms = u64::from(policy.period_seconds) * 1000;
    let events = state.scale_events.iter().filter(|e| e.at_ms.saturating_add(period_ms) > input.now_ms);
    let change: i64 = events.map(|e| i64::from(e.to) - i64::from(e.from)).sum();
    let replicas = i64::from(input.current.replicas) - change;
    u32::try_from(replicas.max(0)).unwrap_or(u32::MAX)
}

/// Returns a percentage of a number, rounded up for more replicas and down for fewer, so that a small percentage still
/// changes something.
fn percent(of: u32, percent: u64, up: bool) -> u32 {
    let product = u64::from(of) * percent;
    let whole = if up { product.div_ceil(100) } else { product / 100 };
    u32::try_from(whole).unwrap_or(u32::MAX)
}
