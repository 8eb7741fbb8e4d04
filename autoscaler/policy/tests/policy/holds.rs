//! What holds the replicas whatever the demand is: other autoscalers, pods of others, zero by hand.
use crate::fixtures::*;
use sluice_scaling_policy::*;

fn held(reason: HoldReason, replicas: u32, load: f64) -> Input {
    let mut input = input(replicas, load * one_replica());
    let message = "HorizontalPodAutoscaler ns/other scales it too; delete one of them".to_owned();
    input.findings.hold = Some(Hold { reason, message });
    input
}

fn told(decision: &Decision, r#type: ConditionType) -> (bool, &str) {
    let found = condition(decision, r#type);
    (found.status, found.reason.as_str())
}

#[test]
fn a_hold_keeps_the_replicas_at_any_load_and_names_who_is_in_the_way() {
    for (reason, says) in [
        (HoldReason::AmbiguousTarget, "AmbiguousTarget"),
        (HoldReason::AmbiguousSelector, "AmbiguousSelector"),
        (HoldReason::ScaleContested, "ScaleContested"),
    ] {
        for load in [0.1, 9.5] {
            let decision = decide(&held(reason, 4, load));
            assert_eq!((decision.desired, decision.apply), (4, false), "{}", decision.message);
            assert_eq!(format!("{:?}", decision.reason), says);
            for r#type in [ConditionType::AbleToScale, ConditionType::ScalingActive] {
                assert_eq!(told(&decision, r#type), (false, says));
                let message = &condition(&decision, r#type).message;
                assert!(message.starts_with("HorizontalPodAutoscaler ns/other"), "{message}");
            }
            assert!(decision.message.contains("ns/other"), "{}", decision.message);
            assert!(
                condition(&decision, ConditionType::MetricsFresh).status,
                "metrics are not what is missing"
            );
        }
    }
}

#[test]
fn bounds_hold_where_only_the_pods_are_ambiguous_and_are_not_written_into_a_fight() {
    for (reason, desired) in [
        (HoldReason::AmbiguousTarget, 4),
        (HoldReason::ScaleContested, 4),
        (HoldReason::AmbiguousSelector, 2),
    ] {
        let mut input = held(reason, 4, 1.0);
        input.spec.max_replicas = 2;
        let decision = decide(&input);
        assert_eq!(decision.desired, desired, "{}", decision.message);
        assert!(!condition(&decision, ConditionType::AbleToScale).status);
        assert_eq!(decision.limited, None);
    }
}

#[test]
fn a_hold_is_no_recommendation_of_a_later_window() {
    let decision = decide(&held(HoldReason::AmbiguousTarget, 9, 0.5));
    let mut after = input(9, 0.5 * one_replica());
    after.state = decision.state;
    assert_eq!(decide(&after).desired, 1);
}

#[test]
fn a_dry_run_recommends_beside_another_autoscaler_and_a_pause_is_told_first() {
    let mut input = held(HoldReason::AmbiguousTarget, 2, 3.5);
    input.spec.dry_run = true;
    let decision = decide(&input);
    assert_eq!((decision.desired, decision.apply), (4, false), "{}", decision.message);
    input.spec.paused = true;
    assert_eq!(told(&decide(&input), ConditionType::AbleToScale), (false, "Paused"));
}

/// Zero replicas of a target in a cluster, of which the last decision left `left`.
fn zero(left: Option<u32>) -> Input {
    let mut input = input(0, 0.0);
    input.signals = Signals { demand_latched: true, ..Signals::default() };
    input.findings.others_scale = true;
    input.state.replicas_left = left;
    input
}

#[test]
fn zero_by_hand_is_off_until_others_set_more() {
    let decision = decide(&zero(Some(3)));
    assert_eq!((decision.desired, decision.apply), (0, false), "{}", decision.message);
    assert_eq!(decision.reason, Reason::ScalingDisabled);
    assert_eq!(told(&decision, ConditionType::ScalingActive), (false, "ScalingDisabled"));
    assert!(condition(&decision, ConditionType::AbleToScale).status, "it could be scaled");
    assert!(!condition(&decision, ConditionType::CapacityLimited).status);

    let mut later = zero(None);
    later.state = decision.state;
    let decision = decide(&later);
    assert_eq!((decision.desired, decision.reason), (0, Reason::ScalingDisabled), "it stays off");

    let mut on = input(1, 2.5 * one_replica());
    on.findings.others_scale = true;
    on.state = decision.state;
    let decision = decide(&on);
    assert_eq!(decision.desired, 3, "{}", decision.message);
    assert!(!decision.state.is_off);
}

#[test]
fn zero_is_off_only_where_others_have_set_it_and_the_minimum_forbids_it() {
    // It waits for its first replica.
    for left in [None, Some(0)] {
        assert_eq!(decide(&zero(left)).desired, 1);
    }
    // On one machine only Sluice sets replicas, so a person cannot have set them to zero.
    let mut alone = zero(Some(3));
    alone.findings.others_scale = false;
    assert_eq!(decide(&alone).desired, 1);
    // It went to zero by itself, and then the minimum was raised.
    let mut state = State { replicas_left: Some(1), ..State::default() };
    state.scaled(NOW - 1000, 1, 0);
    let mut raised = zero(None);
    raised.state = state;
    assert_eq!(decide(&raised).desired, 1);
    // Where zero is allowed, it is as good as any number: demand brings the first replica.
    let mut allowed = zero(Some(3));
    allowed.spec.min_replicas = 0;
    allowed.spec.scale_to_zero_after_seconds = Some(60);
    assert_eq!((decide(&allowed).desired, decide(&allowed).reason), (1, Reason::FromZero));
    allowed.spec.paused = true;
    assert_eq!((decide(&allowed).desired, decide(&allowed).reason), (0, Reason::Paused), "paused means off");
}

#[test]
fn the_first_replica_of_an_unknown_claim_is_asked_for_and_nothing_is_made_up() {
    let mut input = zero(None);
    input.spec.min_replicas = 2;
    input.free = Free { slices: None, reason: "what a replica claims is not known".to_owned() };
    let decision = decide(&input);
    assert_eq!((decision.desired, decision.reason), (0, Reason::CapacityUnknown), "{}", decision.message);

    input.findings.first_replica_tells = true;
    let decision = decide(&input);
    assert_eq!((decision.desired, decision.reason), (1, Reason::CapacityUnknown), "{}", decision.message);
    for r#type in [ConditionType::CapacityLimited, ConditionType::ScalingLimited] {
        assert_eq!(told(&decision, r#type), (true, "CapacityUnknown"));
    }
    let all = format!("{} {:?}", decision.message, decision.conditions);
    assert!(!all.contains("ewer slices are free") && !all.contains("0 more fit"), "{all}");

    input.current = Current { replicas: 1, ready: 0 };
    assert_eq!(decide(&input).desired, 1, "the second waits for what the first one's pod tells");
}
