//! A rollout whose own old pods hold the slices that its new one needs.
use crate::fixtures::*;
use sluice_scaling_policy::*;

/// A load, rows per second, that needs this number of replicas and leaves a third of one to spare.
fn load(replicas: f64) -> f64 {
    (replicas - 0.3) * one_replica()
}

fn stalled() -> Rollout {
    Rollout {
        revision: "7".to_owned(),
        old: 6,
        leaving: 0,
        waiting: Some(Waiting { pod: "bert-new".to_owned(), since_ms: NOW - 10_000 }),
        is_failing: false,
        surrender: Surrender::WhenLowered,
        reserve: 0,
    }
}

/// Six replicas on a full cluster, the load of `need` of them, and a rollout.
fn full(need: f64, rollout: Rollout) -> Input {
    let mut input = input(6, load(need));
    input.free = Free { slices: Some(0), reason: "2g.10gb: 0 free in pool n/gpu".to_owned() };
    input.standing = Standing { without_slice: 1, rollout: Some(rollout), ..Standing::default() };
    // The window of scale-down would keep them.
    input
        .state
        .recommendations
        .push(sluice_scaling_policy::state::Recommendation { at_ms: NOW - 1000, replicas: 6 });
    input
}

fn limited(decision: &Decision) -> (bool, &str, &str) {
    let found = condition(decision, ConditionType::CapacityLimited);
    (found.status, &found.reason, &found.message)
}

#[test]
fn a_stalled_rollout_gets_the_slice_of_one_replica_that_the_load_does_not_need() {
    let decision = decide(&full(4.0, stalled()));
    assert_eq!((decision.desired, decision.apply, decision.reason), (5, true, Reason::RolloutLowered));
    assert_eq!((limited(&decision).0, limited(&decision).1), (true, "RolloutLowered"));
}

#[test]
fn a_replica_is_kept_where_giving_it_up_is_not_allowed_and_it_is_said_why() {
    let minimum = |input: &mut Input| input.spec.min_replicas = 6;
    let disabled = |input: &mut Input| input.spec.behavior.scale_down.select_policy = SelectPolicy::Disabled;
    let blind = |input: &mut Input| input.signals.curve = None;
    let paused = |input: &mut Input| {
        input.standing.rollout.as_mut().unwrap().surrender = Surrender::Paused;
    };
    let unknown = |input: &mut Input| {
        input.standing.rollout.as_mut().unwrap().surrender = Surrender::Unknown;
    };
    let dry = |input: &mut Input| input.spec.dry_run = true;
    let none = |_: &mut Input| ();
    type Change = dyn Fn(&mut Input);
    let new = |input: &mut Input| input.state.since_ms = Some(NOW - 59_999);
    let cases: [(f64, &Change, &str); 8] = [
        (4.0, &new, "is not known"),
        (4.0, &minimum, "minReplicas"),
        (6.0, &none, "The load needs all 6 replicas"),
        (4.0, &disabled, "behavior.scaleDown"),
        (4.0, &blind, "is not known"),
        (4.0, &paused, "kubectl rollout resume"),
        (4.0, &unknown, "is not known"),
        (4.0, &dry, "spec.dryRun"),
    ];
    for (need, change, says) in cases {
        let mut input = full(need, stalled());
        change(&mut input);
        let decision = decide(&input);
        let (status, reason, message) = limited(&decision);
        assert_eq!((decision.desired, status, reason), (6, true, "RolloutWaitsForSlice"), "{says}");
        assert!(message.contains(says) && message.contains("bert-new"), "{message}");
        assert!(
            says.contains("resume") || message.contains("maxUnavailable: 1 and maxSurge: 0"),
            "{message}"
        );
    }
}

#[test]
fn what_is_no_stall_moves_nothing() {
    type Change = dyn Fn(&mut Rollout);
    let cases: [(&str, &Change); 6] = [
        ("it has just begun to wait", &|r| r.waiting.as_mut().unwrap().since_ms = NOW - 9_999),
        ("nothing waits", &|r| r.waiting = None),
        ("no old pod is left", &|r| r.old = 0),
        ("a slice is coming back", &|r| r.leaving = 1),
        ("it removes old pods by itself", &|r| r.surrender = Surrender::ByItself),
        ("the new revision cannot start", &|r| r.is_failing = true),
    ];
    for (what, change) in cases {
        let mut rollout = stalled();
        change(&mut rollout);
        let decision = decide(&full(4.0, rollout));
        assert_eq!((decision.desired, decision.reason), (6, Reason::Stabilized), "{what}");
    }
    let mut fits = full(4.0, stalled());
    fits.standing.without_slice = 0;
    assert_eq!(decide(&fits).desired, 6, "what waits has a slice and no node");
}

/// Decides again and again as a controller does, each second; `see` tells what there is then.
fn go_on(mut input: Input, seconds: u64, mut see: impl FnMut(u64, &mut Input)) -> Vec<u32> {
    let mut asked = Vec::new();
    for second in 0..seconds {
        see(second, &mut input);
        input.now_ms = NOW + second * 1000;
        let demand = &mut input.signals.demand_rows[0];
        let last = *demand.samples.last().unwrap();
        if second > 0 {
            demand.samples.push(Sample { at_ms: input.now_ms, value: last.value + load(4.0) });
        }
        let decision = decide(&input);
        input.state = decision.state;
        if decision.apply {
            input.state.scaled(input.now_ms, input.current.replicas, decision.desired);
            input.current = Current { replicas: decision.desired, ready: decision.desired };
        }
        asked.push(input.current.replicas);
    }
    asked
}

/// A queue that more replicas than there are should drain.
fn overload(second: u64, input: &mut Input) {
    input.signals.queue_rows = Some(Sample { at_ms: NOW + second * 1000, value: 1e6 });
}

#[test]
fn once_lowered_it_is_not_raised_before_the_rollout_is_over_and_not_lowered_again() {
    let asked = go_on(full(4.0, stalled()), 60, |second, input| {
        // Soon the load wants more than there is, and a slice looks free.
        if second == 5 {
            input.free.slices = Some(3);
            input.standing.without_slice = 0;
        }
        if second >= 5 {
            overload(second, input);
        }
        if second == 30 {
            input.free.slices = Some(0);
            input.standing.without_slice = 1;
        }
    });
    assert!(asked.iter().all(|replicas| *replicas == 5), "{asked:?}");
    let asked = go_on(full(4.0, stalled()), 40, |second, input| {
        if second == 20 {
            input.standing.rollout = None;
            input.free.slices = Some(1);
        }
        if second >= 20 {
            overload(second, input);
        }
    });
    assert_eq!(asked[19..21], [5, 6], "it is over");
}

#[test]
fn what_was_not_applied_is_tried_again() {
    let mut first = full(4.0, stalled());
    first.state = decide(&first).state;
    // Somebody else changed the target meanwhile: there are still six.
    first.now_ms += 1000;
    assert_eq!(decide(&first).desired, 5);
}

#[test]
fn a_lowered_rollout_whose_new_pods_fail_holds_growth_no_longer_and_is_not_lowered_for_again() {
    let mut asked = go_on(full(4.0, stalled()), 30, |second, input| {
        if second == 10 {
            input.standing.rollout.as_mut().unwrap().is_failing = true;
            input.free.slices = Some(1);
        }
        if (10..20).contains(&second) {
            overload(second, input);
            input.free.slices = Some(6 - input.current.replicas);
        }
        if second == 20 {
            input.standing.rollout.as_mut().unwrap().is_failing = false;
            input.free.slices = Some(0);
            input.signals.queue_rows = None;
        }
    });
    asked.dedup();
    assert_eq!(asked, [5, 6]);
}

#[test]
fn growth_leaves_the_slice_that_a_rollouts_next_step_needs() {
    let mut input = full(9.0, Rollout { waiting: None, reserve: 1, ..stalled() });
    input.free.slices = Some(1);
    input.standing.without_slice = 0;
    assert_eq!(decide(&input).desired, 6);
    input.free.slices = Some(3);
    assert_eq!(decide(&input).desired, 8);
}

#[test]
fn no_more_are_asked_for_while_as_many_fail_as_serve_but_the_minimum_holds() {
    let failing = |replicas| Obstacle {
        cause: Cause::CrashLoopBackOff,
        replicas,
        pod: "bert-a".to_owned(),
        container: "model".to_owned(),
        detail: "exit code 1, 4 restarts".to_owned(),
        since: "2026-01-01T00:00:00Z".to_owned(),
    };
    let with = |fails: u32, ready: u32, minimum: u32| {
        let mut input = input(4, load(9.0));
        input.current.ready = ready;
        input.spec.min_replicas = minimum;
        input.standing.obstacles = vec![failing(fails)];
        decide(&input)
    };
    let none = with(4, 0, 1);
    assert_eq!((none.desired, none.reason), (4, Reason::ReplicasFailing));
    assert_eq!(with(2, 2, 1).desired, 4);
    assert!(with(1, 3, 1).desired > 4, "one broken node stops nothing");
    assert_eq!(with(4, 0, 6).desired, 6);
    let ready = condition(&none, ConditionType::Ready);
    assert_eq!((ready.status, ready.reason.as_str()), (false, "CrashLoopBackOff"));
    assert_eq!(
        ready.message,
        "0 of 4 replicas are ready. Pod bert-a and 3 others are in CrashLoopBackOff (container model) since \
         2026-01-01T00:00:00Z: exit code 1, 4 restarts. `kubectl logs bert-a -c model --previous` says why."
    );
}

#[test]
fn a_pod_without_a_slice_is_a_limit_whatever_is_wanted() {
    let mut input = input(1, 0.0);
    input.current.ready = 0;
    input.free = Free { slices: Some(0), reason: "2g.10gb: 0 free in pool n/gpu".to_owned() };
    input.standing.without_slice = 1;
    let decision = decide(&input);
    let (status, reason, message) = limited(&decision);
    assert_eq!((status, reason), (true, "ReplicasWaitForSlice"));
    assert!(message.contains("1 pod waits for a slice") && message.contains("n/gpu"), "{message}");
}
