//! Missing metrics, bursts, zero, capacity: what must never go wrong.
use crate::fixtures::*;
use sluice_scaling_policy::*;

#[test]
fn missing_stale_and_nan_metrics_hold_the_replicas() {
    let changes: [fn(&mut Input); 4] = [
        |i| i.signals = Signals::default(),
        |i| i.now_ms += 60_000,
        |i| i.signals.demand_rows[0].samples.last_mut().unwrap().value = f64::NAN,
        |i| i.signals.demand_rows[0].samples.clear(),
    ];
    for change in changes {
        let mut input = input(7, 0.1);
        change(&mut input);
        let decision = decide(&input);
        assert_eq!((decision.desired, decision.reason), (7, Reason::MetricsMissing), "{}", decision.message);
        assert!(!condition(&decision, ConditionType::MetricsFresh).status);
        assert!(!condition(&decision, ConditionType::ScalingActive).status);
    }
}

#[test]
fn one_missing_batcher_forbids_a_scale_down_and_not_a_scale_up() {
    let with = |replicas: u32, rate: f64| {
        let mut input = input(replicas, rate);
        let mut missing = counter(NOW - 60_000, 60, 1.0);
        missing.source = "missing".to_owned();
        input.signals.demand_rows.push(missing);
        decide(&input)
    };
    let decision = with(5, 1.0);
    assert_eq!((decision.desired, decision.reason), (5, Reason::MetricsMissing));
    assert!(with(2, 4.5 * one_replica()).desired > 2);
}

#[test]
fn without_a_curve_replicas_are_held() {
    for curve in
        [None, Some(Curve { alpha_ms: f64::NAN, ..CURVE }), Some(Curve { batch_rows_limit: 0, ..CURVE })]
    {
        let mut input = input(3, 500.0);
        input.signals.curve = curve;
        let decision = decide(&input);
        assert_eq!((decision.desired, decision.reason), (3, Reason::LearningCurve));
    }
}

#[test]
fn a_burst_scales_up_at_once_and_forbids_scale_down_until_it_is_over() {
    let one = one_replica();
    let mut input = input(2, one);
    let last = input.signals.demand_rows[0].samples.len();
    let mut extra = 0.0;
    for sample in input.signals.demand_rows[0].samples.iter_mut().skip(last - 6) {
        extra += 4.0 * one;
        sample.value += extra;
    }
    input.spec.behavior.scale_up.stabilization_window_seconds = 600;
    input.spec.behavior.scale_up.policies.clear();
    input.spec.max_replicas = 100;
    let decision = decide(&input);
    assert_eq!(decision.reason, Reason::Panic, "{}", decision.message);
    assert!(decision.desired >= 5, "{}", decision.message);
    // Calm again: nothing is taken away before panic is over.
    let mut after = crate::fixtures::input(decision.desired, 0.5 * one);
    after.state = decision.state.clone();
    after.state.recommendations.clear();
    let shift = 30_000;
    after.now_ms += shift;
    after.signals.demand_rows[0].samples.iter_mut().for_each(|s| s.at_ms += shift);
    assert_eq!((decide(&after).desired, decide(&after).reason), (decision.desired, Reason::Panic));
    after.now_ms += shift + 1000;
    after.signals.demand_rows[0].samples.iter_mut().for_each(|s| s.at_ms += shift + 1000);
    assert_eq!(decide(&after).desired, 1);
}

#[test]
fn a_queue_to_be_drained_is_demand() {
    let mut input = input(2, one_replica());
    assert_eq!(decide(&input).steps.backlog_rows_per_second, Some(0.0));
    input.signals.queue_rows = Some(Sample { at_ms: NOW, value: 4000.0 });
    let decision = decide(&input);
    assert!(decision.desired > 2, "{}", decision.message);
    let alone = decision.steps.backlog_rows_per_second.unwrap();
    // Replicas that are on their way will drain it: it calls for fewer others.
    input.current.ready = 1;
    assert!(decide(&input).steps.backlog_rows_per_second.unwrap() < alone);
}

#[test]
fn latched_demand_starts_the_first_replica_at_once_even_without_metrics() {
    let mut input = input(0, 0.0);
    input.spec.min_replicas = 0;
    input.spec.scale_to_zero_after_seconds = Some(60);
    input.signals = Signals { demand_latched: true, ..Signals::default() };
    input.spec.behavior.scale_up.policies =
        vec![ScalingPolicy { r#type: PolicyType::Percent, value: 100, period_seconds: 15 }];
    let decision = decide(&input);
    assert_eq!((decision.desired, decision.reason, decision.apply), (1, Reason::FromZero, true));
    input.free.slices = Some(0);
    let decision = decide(&input);
    assert_eq!((decision.desired, decision.reason), (0, Reason::CapacityLimited));
}

#[test]
fn no_demand_for_long_enough_scales_to_zero_and_stays_there() {
    let mut input = input(1, 0.0);
    input.spec.min_replicas = 0;
    input.spec.scale_to_zero_after_seconds = Some(60);
    input.state.last_demand_ms = Some(NOW - 59_000);
    assert_eq!(decide(&input).desired, 1);
    input.state.last_demand_ms = Some(NOW - 60_000);
    let decision = decide(&input);
    assert_eq!((decision.desired, decision.reason), (0, Reason::ToZero), "{}", decision.message);
    input.current = Current { replicas: 0, ready: 0 };
    let decision = decide(&input);
    assert_eq!(decision.desired, 0, "{}", decision.message);
    // Never on metrics that are not there, and not where a queue waits.
    input.current = Current { replicas: 1, ready: 1 };
    input.signals.queue_rows = Some(Sample { at_ms: NOW, value: 1.0 });
    assert_eq!(decide(&input).desired, 1);
    input.signals = Signals::default();
    assert_eq!(decide(&input).desired, 1);
}

#[test]
fn an_empty_state_does_not_scale_to_zero() {
    let mut input = input(1, 0.0);
    input.spec.min_replicas = 0;
    input.spec.scale_to_zero_after_seconds = Some(60);
    input.state = State::default();
    assert_eq!(decide(&input).desired, 1);
}

#[test]
fn it_never_asks_for_what_cannot_be_placed_and_says_why() {
    let mut input = input(2, 7.5 * one_replica());
    input.spec.behavior.scale_up.policies.clear();
    let reason = "2g.10gb: 1 free in pool n/gpu: memory slices 0-3 of gpu-0 held by default/bert-1";
    input.free = Free { slices: Some(1), reason: reason.to_owned() };
    let decision = decide(&input);
    assert_eq!((decision.desired, decision.reason), (3, Reason::CapacityLimited));
    let limited = decision.limited.clone().unwrap();
    assert_eq!((limited.profile.as_str(), limited.free, limited.reason.as_str()), ("2g.10gb", 1, reason));
    assert!(limited.wanted >= 8);
    assert!(condition(&decision, ConditionType::CapacityLimited).status);
    assert!(decision.message.contains("held by default/bert-1"), "{}", decision.message);
    input.free = Free { slices: None, reason: "slices cannot be read".to_owned() };
    let decision = decide(&input);
    assert_eq!(decision.desired, 2);
    assert_eq!(condition(&decision, ConditionType::CapacityLimited).reason, "CapacityUnknown");
}

#[test]
fn an_objective_that_nothing_meets_is_named_and_still_served() {
    let mut input = input(1, 400.0);
    input.spec.objective.latency_ms = 10.0;
    input.spec.behavior.scale_up.policies.clear();
    let decision = decide(&input);
    assert!(decision.desired >= 3, "{}", decision.message);
    assert_eq!(condition(&decision, ConditionType::ScalingActive).reason, "ObjectiveImpossible");
}

#[test]
fn many_misses_forbid_a_scale_down() {
    let mut input = input(4, 1.5 * one_replica());
    input.signals.attainment = Some(Sample { at_ms: NOW, value: 0.9 });
    assert_eq!((decide(&input).desired, decide(&input).reason), (4, Reason::ObjectiveMissed));
    input.signals.attainment = Some(Sample { at_ms: NOW, value: 0.995 });
    assert_eq!(decide(&input).desired, 2);
}

#[test]
fn observed_latencies_correct_the_model_within_bounds() {
    let corrected = |factor: f64| {
        let mut input = input(4, 2.5 * one_replica());
        let predicted = decide(&input).steps.predicted_quantile_ms.unwrap();
        for _ in 0..1000 {
            input.signals.observed_quantile_ms =
                Some(Sample { at_ms: input.now_ms, value: factor * predicted });
            let decision = decide(&input);
            input.state = decision.state;
            input.now_ms += 2000;
            input.signals.demand_rows[0].samples.iter_mut().for_each(|s| s.at_ms += 2000);
        }
        decide(&input).steps.correction.unwrap()
    };
    assert!((corrected(1.2) - 1.2).abs() < 0.02);
    assert!(corrected(100.0) <= 1.5 && corrected(0.01) >= 0.7);
}

/// Numbers that no batcher measures must neither end the decision nor move a replica.
#[test]
fn numbers_that_cannot_be_hold_the_replicas() {
    for poison in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 1e308, 1e16] {
        let mut newest = input(4, 40.0);
        newest.signals.demand_rows[0].samples.last_mut().unwrap().value = poison;
        let decision = decide(&newest);
        assert_eq!((decision.desired, decision.reason), (4, Reason::MetricsMissing), "{poison}");
        assert!(!condition(&decision, ConditionType::MetricsFresh).status, "{poison}");
    }
}

#[test]
fn a_curve_that_cannot_be_is_none() {
    let curve =
        |alpha_ms, beta_ms, batch_rows_limit| Curve { alpha_ms, beta_ms, batch_rows_limit, samples: 9 };
    for poison in [
        curve(1e308, 1e308, 64),
        curve(1e308, 0.0, 64),
        curve(0.0, 5e-324, 64),
        curve(5e-324, 0.0, u32::MAX),
        curve(20.0, 4.0, u32::MAX),
        curve(-1.0, 4.0, 8),
        curve(f64::NAN, 4.0, 8),
    ] {
        let decision = decide(&Input {
            signals: Signals { curve: Some(poison), ..input(4, 40.0).signals },
            ..input(4, 40.0)
        });
        assert_eq!((decision.desired, decision.reason), (4, Reason::LearningCurve), "{poison:?}");
    }
}
