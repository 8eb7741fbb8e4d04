//! What the HorizontalPodAutoscaler's vocabulary promises.
use crate::fixtures::*;
use sluice_scaling_policy::state::{Recommendation, ScaleEvent};
use sluice_scaling_policy::*;

fn pods(value: u32, period_seconds: u32) -> ScalingPolicy {
    ScalingPolicy { r#type: PolicyType::Pods, value, period_seconds }
}

fn percent(value: u32, period_seconds: u32) -> ScalingPolicy {
    ScalingPolicy { r#type: PolicyType::Percent, value, period_seconds }
}

#[test]
fn replicas_follow_the_need() {
    let one = one_replica();
    for (replicas, load, want, reason) in [
        (1, 0.5, 1, Reason::Steady),
        (4, 1.5, 2, Reason::DemandFell),
        (3, 2.5, 3, Reason::Steady),
        (2, 2.9, 3, Reason::DemandRose),
    ] {
        let decision = decide(&input(replicas, load * one));
        assert_eq!((decision.desired, decision.reason), (want, reason), "{}", decision.message);
        assert_eq!(decision.apply, want != replicas);
    }
}

#[test]
fn a_need_within_the_tolerance_changes_nothing() {
    let one = one_replica();
    // 9.6 of 11: fewer would do, but within 10 %.
    let mut down = input(11, 9.95 * one);
    let decision = decide(&down);
    assert_eq!((decision.desired, decision.reason), (11, Reason::WithinTolerance), "{}", decision.message);
    down.spec.behavior.scale_down.tolerance = 0.0;
    assert_eq!(decide(&down).desired, 10);
    // Upwards it never excuses a predicted miss.
    let decision = decide(&input(10, 10.9 * one));
    assert_eq!((decision.desired, decision.reason), (11, Reason::DemandRose), "{}", decision.message);
    let mut up = input(10, 10.05 * one);
    let decision = decide(&up);
    assert_eq!((decision.desired, decision.reason), (10, Reason::WithinTolerance), "{}", decision.message);
    up.spec.behavior.scale_up.tolerance = 0.0;
    assert_eq!(decide(&up).desired, 11);
}

#[test]
fn the_largest_recommendation_of_the_window_holds_a_scale_down() {
    let mut input = input(5, 0.5 * one_replica());
    input.state.recommendations.push(Recommendation { at_ms: NOW - 200_000, replicas: 4 });
    let decision = decide(&input);
    assert_eq!((decision.desired, decision.reason), (4, Reason::Stabilized));
    input.state.recommendations[0].at_ms = NOW - 301_000;
    assert_eq!(decide(&input).desired, 1);
}

#[test]
fn the_smallest_recommendation_of_the_window_holds_a_scale_up() {
    let mut input = input(2, 3.5 * one_replica());
    input.spec.behavior.scale_up.stabilization_window_seconds = 60;
    input.state.recommendations.push(Recommendation { at_ms: NOW - 30_000, replicas: 2 });
    let decision = decide(&input);
    assert_eq!((decision.desired, decision.reason), (2, Reason::Stabilized), "{}", decision.message);
    input.state.recommendations.clear();
    assert_eq!(decide(&input).desired, 4);
}

#[test]
fn a_first_decision_never_scales_down() {
    let mut input = input(5, 0.5 * one_replica());
    input.state = State::default();
    let decision = decide(&input);
    assert_eq!((decision.desired, decision.reason), (5, Reason::Stabilized));
    assert_eq!(decision.state.since_ms, Some(NOW));
}

#[test]
fn scale_up_policies_limit_the_change_per_period() {
    let load = 20.0 * one_replica();
    let decided = |policies: Vec<ScalingPolicy>, select: SelectPolicy, events: &[(u64, u32, u32)]| {
        let mut input = input(4, load);
        input.spec.behavior.scale_up.policies = policies;
        input.spec.behavior.scale_up.select_policy = select;
        for &(ago_ms, from, to) in events {
            input.state.scale_events.push(ScaleEvent { at_ms: NOW - ago_ms, from, to });
        }
        let decision = decide(&input);
        assert!(decision.desired == 20 || decision.reason == Reason::RateLimited, "{decision:?}");
        decision.desired
    };
    let both = || vec![pods(3, 15), percent(100, 15)];
    assert_eq!(decided(both(), SelectPolicy::Max, &[]), 8);
    assert_eq!(decided(both(), SelectPolicy::Min, &[]), 7);
    assert_eq!(decided(both(), SelectPolicy::Disabled, &[]), 4);
    assert_eq!(decided(vec![], SelectPolicy::Max, &[]), 20);
    assert_eq!(decided(vec![pods(3, 15)], SelectPolicy::Max, &[(10_000, 2, 4)]), 5, "two of three are used");
    assert_eq!(decided(vec![pods(3, 15)], SelectPolicy::Max, &[(20_000, 2, 4)]), 7, "the period is over");
    assert_eq!(
        decided(vec![percent(50, 60)], SelectPolicy::Max, &[(10_000, 2, 4)]),
        4,
        "3 is the limit, and past"
    );
}

#[test]
fn scale_down_policies_limit_the_change_per_period() {
    let decided = |policies: Vec<ScalingPolicy>, select: SelectPolicy, events: &[(u64, u32, u32)]| {
        let mut input = input(10, 0.5 * one_replica());
        input.spec.behavior.scale_down.policies = policies;
        input.spec.behavior.scale_down.select_policy = select;
        for &(ago_ms, from, to) in events {
            input.state.scale_events.push(ScaleEvent { at_ms: NOW - ago_ms, from, to });
        }
        decide(&input).desired
    };
    let both = || vec![pods(3, 15), percent(50, 15)];
    assert_eq!(decided(both(), SelectPolicy::Max, &[]), 5);
    assert_eq!(decided(both(), SelectPolicy::Min, &[]), 7);
    assert_eq!(decided(both(), SelectPolicy::Disabled, &[]), 10);
    assert_eq!(decided(vec![], SelectPolicy::Max, &[]), 1);
    assert_eq!(decided(vec![pods(3, 15)], SelectPolicy::Max, &[(10_000, 12, 10)]), 9);
}

#[test]
fn bounds_hold_even_without_metrics() {
    let mut input = input(3, 1.0);
    input.signals = Signals::default();
    assert_eq!(decide(&input).desired, 3);
    input.spec.min_replicas = 5;
    assert_eq!((decide(&input).desired, decide(&input).reason), (5, Reason::AtMinimum));
    input.spec.min_replicas = 1;
    input.spec.max_replicas = 2;
    assert_eq!((decide(&input).desired, decide(&input).reason), (2, Reason::AtMaximum));
}

#[test]
fn the_maximum_is_named_when_more_is_wanted() {
    let mut input = input(4, 6.5 * one_replica());
    input.spec.max_replicas = 4;
    let decision = decide(&input);
    assert_eq!((decision.desired, decision.reason), (4, Reason::AtMaximum), "{}", decision.message);
    assert_eq!(condition(&decision, ConditionType::ScalingLimited).reason, "TooManyReplicas");
}

#[test]
fn paused_and_dry_run_change_nothing() {
    let mut input = input(2, 8.0 * one_replica());
    input.spec.dry_run = true;
    let decision = decide(&input);
    assert!(decision.desired > 2 && !decision.apply);
    assert!(condition(&decision, ConditionType::DryRun).status);
    input.spec.paused = true;
    let decision = decide(&input);
    assert_eq!((decision.desired, decision.apply, decision.reason), (2, false, Reason::Paused));
    assert!(!condition(&decision, ConditionType::AbleToScale).status);
}

#[test]
fn a_specification_that_makes_no_sense_is_held_and_named() {
    let mut input = input(2, 8.0 * one_replica());
    input.spec.objective.quantile = 99.0;
    let decision = decide(&input);
    assert_eq!((decision.desired, decision.reason), (2, Reason::InvalidSpec));
    assert!(decision.message.contains("objective.quantile is 99"), "{}", decision.message);
    input = crate::fixtures::input(2, 8.0 * one_replica());
    input.spec.min_replicas = 30;
    assert_eq!((decide(&input).desired, decide(&input).reason), (2, Reason::InvalidSpec));
}

#[test]
fn a_change_that_a_window_shortens_is_not_called_held() {
    // A recent recommendation of 3 lets a fall from 5 to 2 go to 3, and no further.
    let mut down = input(5, 1.5 * one_replica());
    down.state.recommendations = vec![Recommendation { at_ms: NOW - 10_000, replicas: 3 }];
    let mut up = input(3, 7.5 * one_replica());
    up.spec.behavior.scale_up.stabilization_window_seconds = 60;
    up.spec.behavior.scale_up.policies.clear();
    up.state.recommendations = vec![Recommendation { at_ms: NOW - 10_000, replicas: 5 }];
    for (input, desired, window) in [(down, 3, "ScaleDownStabilized"), (up, 5, "ScaleUpStabilized")] {
        let decision = decide(&input);
        assert_eq!(
            (decision.desired, decision.reason),
            (desired, Reason::Stabilized),
            "{}",
            decision.message
        );
        assert!(decision.apply);
        assert!(!decision.message.contains("holds it"), "{}", decision.message);
        assert_eq!(condition(&decision, ConditionType::AbleToScale).reason, window);
    }
}
