//! Deferral: what holds for every wait; and against greedy dispatch, in a discrete-event simulation. `-- --nocapture` prints the figures.

mod properties;
mod simulation;

use simulation::{Outcome, Server, hard_maximum, simulate};

const SLOTS: u32 = 4;
const REQUESTS: u64 = 15_000;

fn outcome(objective_us: u64, defers: bool, rate: f64) -> Outcome {
    simulate(Server { slots: SLOTS, objective_us, defers }, rate, REQUESTS, 7)
}

/// The most requests per second of which 99 % are answered within the objective, to 2 %.
fn most_per_second(objective_us: u64, defers: bool) -> f64 {
    let (mut low, mut high) = (0.1 * hard_maximum(SLOTS), hard_maximum(SLOTS));
    while high > 1.02 * low {
        let middle = (low * high).sqrt();
        if outcome(objective_us, defers, middle).attainment() >= 0.99 {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

#[test]
fn a_tight_objective_with_several_slots_allows_more_requests() {
    let (greedy, deferred) = (most_per_second(15_000, false), most_per_second(15_000, true));
    println!("15 ms, {SLOTS} slots: greedy {greedy:.0} requests/s, deferred {deferred:.0}");
    assert!(deferred >= 1.5 * greedy, "greedy {greedy}, deferred {deferred}");
}

#[test]
fn what_is_admitted_under_overload_is_in_time() {
    for load in [0.75, 1.5] {
        let kept = outcome(15_000, true, load * hard_maximum(SLOTS)).kept();
        println!("15 ms, {load}× the hard maximum, deferred: kept {kept:.4}");
        assert!(kept >= 0.99, "{load}×: {kept}");
    }
}

#[test]
fn where_the_objective_is_loose_deferral_costs_nothing() {
    let (greedy, deferred) = (most_per_second(50_000, false), most_per_second(50_000, true));
    println!("50 ms, {SLOTS} slots: greedy {greedy:.0} requests/s, deferred {deferred:.0}");
    assert!(deferred >= 0.98 * greedy, "greedy {greedy}, deferred {deferred}");
}

#[test]
fn at_low_load_deferral_does_not_slow_requests_down() {
    let rate = 0.1 * hard_maximum(SLOTS);
    for objective_us in [15_000, 50_000] {
        let [greedy_us, deferred_us] =
            [false, true].map(|defers| outcome(objective_us, defers, rate).p50_us());
        println!(
            "10 % load, {} ms: p50 greedy {greedy_us} us, deferred {deferred_us} us",
            objective_us / 1000
        );
        assert!(deferred_us as f64 <= 1.1 * greedy_us as f64, "greedy {greedy_us}, deferred {deferred_us}");
    }
}

#[test]
fn with_one_slot_deferral_changes_nothing() {
    let [greedy, deferred] = [false, true].map(|defers| {
        simulate(Server { slots: 1, objective_us: 15_000, defers }, 0.2 * hard_maximum(1), REQUESTS, 7)
    });
    assert_eq!((greedy.met, greedy.batches), (deferred.met, deferred.batches));
}
