//! A decision is a function of its record.
use crate::fixtures::*;
use proptest::prelude::*;
use sluice_scaling_policy::state::{Lowered, Recommendation, ScaleEvent};
use sluice_scaling_policy::*;

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => 0.0..5000.0_f64,
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(-1.0),
        1 => any::<f64>(),
    ]
}

fn sample() -> impl Strategy<Value = Sample> {
    (NOW - 20_000..NOW + 10, value()).prop_map(|(at_ms, value)| Sample { at_ms, value })
}

fn standing() -> impl Strategy<Value = Standing> {
    let causes = [Cause::FailedCreate, Cause::CrashLoopBackOff, Cause::Unschedulable, Cause::Starting];
    let obstacle =
        (prop::sample::select(causes.to_vec()), 0..30_u32).prop_map(|(cause, replicas)| Obstacle {
            cause,
            replicas,
            pod: "bert-a".to_owned(),
            container: String::new(),
            detail: "why".to_owned(),
            since: String::new(),
        });
    let surrenders = [Surrender::ByItself, Surrender::WhenLowered, Surrender::Paused, Surrender::Unknown];
    let rollout = (
        0..20_u32,
        0..2_u32,
        prop::option::of(0..2 * NOW),
        any::<bool>(),
        prop::sample::select(surrenders.to_vec()),
    )
        .prop_map(|(old, few, waits_since, is_failing, surrender)| Rollout {
            revision: "7".to_owned(),
            old,
            leaving: few,
            waiting: waits_since.map(|since_ms| Waiting { pod: "bert-b".to_owned(), since_ms }),
            is_failing,
            surrender,
            reserve: few,
        });
    (prop::collection::vec(obstacle, 0..3), 0..4_u32, prop::option::of(rollout))
        .prop_map(|(obstacles, without_slice, rollout)| Standing { obstacles, without_slice, rollout })
}

fn any_input() -> impl Strategy<Value = Input> {
    let curve = prop_oneof![
        (0.0..50.0_f64, 0.0..10.0_f64, 0..40_u32).prop_map(|(alpha_ms, beta_ms, batch_rows_limit)| {
            Curve { alpha_ms, beta_ms, batch_rows_limit, samples: 9 }
        }),
        (value(), value()).prop_map(|(alpha_ms, beta_ms)| Curve {
            alpha_ms,
            beta_ms,
            batch_rows_limit: 8,
            samples: 1
        }),
    ];
    let signals = (
        (0.0..2000.0_f64, prop::collection::vec(sample(), 0..4)),
        prop::option::of(curve),
        prop::option::of(sample()),
        prop::option::of(sample()),
        prop::option::of(sample()),
        any::<bool>(),
    );
    let signals = signals.prop_map(
        |((rate, odd), curve, queue_rows, observed_quantile_ms, attainment, demand_latched)| {
            let mut series = counter(NOW, 130, rate);
            series.samples.extend(odd);
            Signals {
                demand_rows: vec![series],
                curve,
                queue_rows,
                observed_quantile_ms,
                attainment,
                demand_latched,
                second_source: Vec::new(),
            }
        },
    );
    let state = (
        prop::option::of(0..NOW),
        prop::collection::vec((NOW - 400_000..NOW, 0..30_u32), 0..5),
        prop::collection::vec((NOW - 60_000..NOW, 0..30_u32, 0..30_u32), 0..5),
        prop::option::of(0.7..1.5_f64),
        prop::option::of(NOW - 1000..NOW + 60_000),
        prop::option::of(0..NOW),
        prop::option::of((0..30_u32, 0..NOW, any::<bool>())),
    );
    let state = state.prop_map(
        |(since_ms, recommendations, events, correction, panic_until_ms, last_demand_ms, lowered)| State {
            since_ms,
            recommendations: recommendations
                .into_iter()
                .map(|(at_ms, replicas)| Recommendation { at_ms, replicas })
                .collect(),
            scale_events: events
                .into_iter()
                .map(|(at_ms, from, to)| ScaleEvent { at_ms, from, to })
                .collect(),
            correction,
            panic_until_ms,
            last_demand_ms,
            lowered: lowered.map(|(from, at_ms, was_applied)| Lowered {
                revision: "7".to_owned(),
                from,
                at_ms,
                was_applied,
            }),
            ..State::default()
        },
    );
    let spec = (0..4_u32, 0..30_u32, prop::option::of(0..600_u32), any::<(bool, bool)>(), 0.0..500.0_f64);
    let spec =
        spec.prop_map(|(min_replicas, more, scale_to_zero_after_seconds, (paused, dry_run), latency_ms)| {
            Spec {
                min_replicas,
                max_replicas: min_replicas + more,
                // As the autoscaler does: to zero only where zero is a bound.
                scale_to_zero_after_seconds: scale_to_zero_after_seconds.filter(|_| min_replicas == 0),
                paused: paused && dry_run,
                dry_run,
                objective: Objective { quantile: 0.99, latency_ms },
                ..crate::fixtures::spec()
            }
        });
    let hold = prop::option::of(prop_oneof![
        Just(HoldReason::AmbiguousTarget),
        Just(HoldReason::AmbiguousSelector),
        Just(HoldReason::ScaleContested),
    ]);
    let findings = (hold, any::<(bool, bool)>()).prop_map(|(reason, (others_scale, first_replica_tells))| {
        let hold =
            reason.map(|reason| Hold { reason, message: "HorizontalPodAutoscaler ns/other".to_owned() });
        Findings { hold, others_scale, first_replica_tells }
    });
    (spec, 0..25_u32, 0..25_u32, signals, prop::option::of(0..10_u32), state, (standing(), findings))
        .prop_map(|(spec, replicas, ready, signals, slices, state, (standing, findings))| Input {
            now_ms: NOW,
            spec,
            current: Current { replicas, ready: ready.min(replicas) },
            signals,
            free: Free { slices, reason: "held by default/bert-1".to_owned() },
            standing,
            findings,
            state,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    /// Written as a line, read again and decided again: the same bits. And whatever comes in, what goes out
    /// keeps its promises.
    #[test]
    fn any_decision_replays_bit_for_bit_and_keeps_its_promises(input in any_input()) {
        let record = DecisionRecord::new("default/bert", input);
        let line = record.to_line().unwrap();
        prop_assert!(!line.contains('\n'));
        let read = DecisionRecord::from_line(&line).unwrap();
        prop_assert_eq!(read.to_line().unwrap(), line);
        prop_assert!(replay(&read).is_ok(), "{:?}", replay(&read));
        prop_assert!(!explain(&read).is_empty());

        let (input, decision) = (&record.input, &record.decision);
        let first = input.findings.first_replica_tells && input.free.slices.is_none();
        let most = (input.current.replicas + input.free.slices.unwrap_or(0)).max(u32::from(first));
        prop_assert!(decision.desired <= most, "never more than there is and what is free");
        let hold = input.findings.hold.as_ref().map(|hold| hold.reason);
        let frozen = hold.is_some_and(|hold| hold != HoldReason::AmbiguousSelector && !input.spec.dry_run);
        if frozen {
            prop_assert_eq!((decision.desired, decision.apply), (input.current.replicas, false));
        }
        if input.spec.invalid().is_none() && !input.spec.paused && !frozen {
            prop_assert!(decision.desired <= input.spec.max_replicas);
            prop_assert!(decision.desired >= input.spec.min_replicas.min(most));
        }
        prop_assert!(!decision.apply || (decision.desired != input.current.replicas && !input.spec.dry_run));
        prop_assert_eq!(decision.conditions.len(), 7);
        prop_assert!(decision.state.correction.is_none_or(|c| (0.7..=1.5).contains(&c)));
    }
}

#[test]
fn a_changed_record_is_told_by_its_field() {
    let mut record = DecisionRecord::new("default/bert", input(2, 100.0));
    record.decision.desired += 1;
    let difference = replay(&record).unwrap_err().to_string();
    assert!(difference.contains("decision.desired was"), "{difference}");
    record = DecisionRecord::new("default/bert", input(2, 100.0));
    record.decision.steps.need = record.decision.steps.need.map(|need| f64::from_bits(need.to_bits() + 1));
    assert!(replay(&record).unwrap_err().to_string().contains("decision.steps.need"), "one bit is enough");
    record.version += 1;
    assert!(matches!(replay(&record), Err(Difference::Version { .. })));
}

#[test]
fn a_record_explains_itself_stage_by_stage() {
    let text = explain(&DecisionRecord::new("default/bert", input(2, 300.0)));
    for part in [
        "default/bert at 1000000 ms:",
        "rate now",
        "service curve",
        "need",
        "after capacity",
        "free slices",
        "reason",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
}

#[test]
fn an_unknown_field_in_a_record_is_refused() {
    let line = DecisionRecord::new("default/bert", input(2, 300.0)).to_line().unwrap();
    let error =
        DecisionRecord::from_line(&line.replacen("\"nowMs\"", "\"nowMS\"", 1)).unwrap_err().to_string();
    assert!(error.contains("nowMS"), "{error}");
}

#[test]
fn the_explanation_names_the_profile_of_the_free_slices_once() {
    let text = explain(&DecisionRecord::new("default/bert", input(2, 10.0)));
    let line = text.lines().find(|line| line.contains("free slices")).unwrap();
    assert!(line.ends_with("100 of 2g.10gb: plenty"), "{line}");
}
