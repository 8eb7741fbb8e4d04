//! Deferral: properties of every wait, and a comparison with greedy dispatch in a discrete-event simulation.
//! `-- --nocapture` prints the figures.

mod properties;

use sluice_simulate::{ModelSpec, Outcome, ServerSpec, Simulation, Source};

const SLOTS: u32 = 4;
const REQUESTS: u64 = 15_000;
/// Time in which the curve is learned; requests of this time do not count.
const WARM_UP_US: u64 = 1_000_000;

/// Simulated server: L(b) = 5 ms + 0.25 ms·b with noise.
#[derive(Debug, Clone, Copy)]
struct Server {
    slots: u32,
    objective_us: u64,
    defers: bool,
}

impl Server {
    fn spec(&self) -> ModelSpec {
        let mut spec = ModelSpec::new(0.005, 0.000_25, 64, self.objective_us).warmed();
        (spec.settings.slots_per_server, spec.settings.defers) = (self.slots, self.defers);
        spec
    }
}

/// Returns the rows per second of all slots with full batches.
fn hard_maximum(slots: u32) -> f64 {
    let server = Server { slots, objective_us: 0, defers: false };
    f64::from(slots) * server.spec().most_rows_per_second()
}

/// Simulates about `requests` requests of one row each, after the warm-up.
fn simulate(server: Server, rate: f64, requests: u64, seed: u64) -> Outcome {
    let mut simulation = Simulation::new(seed);
    simulation.count_from(WARM_UP_US);
    let model = simulation.add_model(server.spec());
    simulation.add_server(ServerSpec::default(), 0);
    simulation.add_source(Source::poisson(model, rate));
    simulation.run_until(WARM_UP_US + (requests as f64 / rate * 1e6) as u64);
    simulation.into_outcomes().remove(0)
}

fn outcome(objective_us: u64, defers: bool, rate: f64) -> Outcome {
    simulate(Server { slots: SLOTS, objective_us, defers }, rate, REQUESTS, 7)
}

/// Finds the most requests per second of which 99 % are answered within the objective, to 2 %.
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
            [false, true].map(|defers| outcome(objective_us, defers, rate).latency_us(0.5));
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
