//! The whole policy under overload, in a discrete-event simulation: goodput, and whose requests are in time.
//! `-- --nocapture` prints the figures.

use sluice_batch_policy::Flow;
use sluice_simulate::{ModelSpec, Outcome, ServerSpec, Simulation};

const SECONDS: u64 = 60;
/// Time of the first batches; requests of this time do not count.
const WARM_UP_US: u64 = 5_000_000;

/// Source of requests of one row each.
#[derive(Debug, Clone, Copy)]
struct Source {
    flow: Flow,
    /// Requests per second.
    rate: f64,
}

impl Source {
    fn new(class: u8, tenant: u32, rate: f64) -> Self {
        Self { flow: Flow { class, tenant, weight: 1 }, rate }
    }
}

/// Returns a model with one slot, L(b) = 20 ms + 1 ms·b with noise and an objective of 300 ms. The curve is learned
/// during the run.
fn model(cap_rows: u32) -> ModelSpec {
    ModelSpec::new(0.020, 0.001, cap_rows, 300_000)
}

/// Returns the rows per second with full batches.
fn hard_maximum(cap_rows: u32) -> f64 {
    model(cap_rows).most_rows_per_second()
}

/// Simulates `seconds` seconds after the warm-up and returns one outcome for each source.
fn simulate(cap_rows: u32, sources: &[Source], seconds: u64, seed: u64) -> Vec<Outcome> {
    let mut simulation = Simulation::new(seed);
    simulation.count_from(WARM_UP_US);
    let model = simulation.add_model(model(cap_rows));
    simulation.add_server(ServerSpec::default(), 0);
    for source in sources {
        simulation.add_source(sluice_simulate::Source::poisson(model, source.rate).of(source.flow));
    }
    simulation.run_until(WARM_UP_US + seconds * 1_000_000);
    simulation.into_outcomes()
}

/// Returns the answers within the objective, as a part of the hard maximum.
fn goodput(outcomes: &[Outcome], cap_rows: u32) -> f64 {
    let met: u64 = outcomes.iter().map(|outcome| outcome.met).sum();
    met as f64 / SECONDS as f64 / hard_maximum(cap_rows)
}

/// Simulates one source at `load` times the hard maximum.
fn alone(cap_rows: u32, load: f64, seed: u64) -> Outcome {
    let source = Source::new(1, 0, load * hard_maximum(cap_rows));
    simulate(cap_rows, &[source], SECONDS, seed).remove(0)
}

#[test]
fn overload_keeps_goodput_near_the_hard_maximum_and_promises_to_the_admitted() {
    for cap_rows in [64, 128] {
        for load in [1.5, 3.0] {
            let outcome = alone(cap_rows, load, 42);
            let goodput = goodput(std::slice::from_ref(&outcome), cap_rows);
            let kept = outcome.kept();
            println!("cap {cap_rows}, {load}×: goodput {goodput:.3} of the hard maximum, kept {kept:.4}");
            assert!(goodput >= 0.90, "cap {cap_rows}, {load}×: goodput {goodput}");
            assert!(kept >= 0.99, "cap {cap_rows}, {load}×: kept {kept}");
        }
    }
}

#[test]
fn below_the_maximum_nearly_all_are_admitted_and_in_time() {
    let outcome = alone(64, 0.7, 43);
    assert!(outcome.met as f64 >= 0.99 * outcome.sent as f64, "{} of {}", outcome.met, outcome.sent);
}

#[test]
fn low_load_is_not_made_to_wait_for_company() {
    // 2 requests/s: hardly any two meet, and a batch of one takes 21 ms.
    let outcome = alone(64, 2.0 / hard_maximum(64), 44);
    assert!(outcome.latency_us(0.5) < 23_000, "{}", outcome.latency_us(0.5));
}

#[test]
fn overload_of_a_low_class_costs_the_high_one_nothing() {
    for high_load in [0.2, 0.6] {
        let maximum = hard_maximum(64);
        let sources = [Source::new(1, 0, high_load * maximum), Source::new(2, 0, 3.0 * maximum)];
        let outcomes = simulate(64, &sources, SECONDS, 45);
        let [high, low] = &outcomes[..] else { unreachable!("one outcome for each source") };
        let goodput = goodput(&outcomes, 64);
        println!(
            "high class at {high_load}×, low at 3×: goodput {goodput:.3}; high {:.4} of what it sent in time, low kept {:.4}",
            high.met as f64 / high.sent as f64,
            low.kept()
        );
        assert!(high.met as f64 >= 0.99 * high.sent as f64, "{} of {}", high.met, high.sent);
        assert!(goodput >= 0.90, "{goodput}");
        // The low class is overtaken by arrivals that were not known when its requests were admitted.
        assert!(low.kept() >= 0.97, "{}", low.kept());
    }
}

#[test]
fn a_tenant_within_its_share_does_not_feel_anothers_flood() {
    for modest_load in [0.1, 0.4] {
        let maximum = hard_maximum(64);
        let sources = [Source::new(1, 2, modest_load * maximum), Source::new(1, 3, 3.0 * maximum)];
        let outcomes = simulate(64, &sources, SECONDS, 46);
        let [modest, flood] = &outcomes[..] else { unreachable!("one outcome for each source") };
        let goodput = goodput(&outcomes, 64);
        println!(
            "a tenant at {modest_load}×, another at 3×: goodput {goodput:.3}; the first has {:.4} of what it sent in time, the other kept {:.4}",
            modest.met as f64 / modest.sent as f64,
            flood.kept()
        );
        assert!(modest.met as f64 >= 0.99 * modest.sent as f64, "{} of {}", modest.met, modest.sent);
        assert!(goodput >= 0.90, "{goodput}");
        assert!(flood.kept() >= 0.97, "{}", flood.kept());
    }
}

#[test]
fn tenants_that_all_flood_get_goodput_by_their_weights() {
    let maximum = hard_maximum(64);
    let mut sources = [1, 2, 3].map(|tenant| Source::new(1, tenant, 2.0 * maximum));
    sources[2].flow.weight = 2;
    let outcomes = simulate(64, &sources, SECONDS, 47);
    let goodput = goodput(&outcomes, 64);
    let met: Vec<f64> = outcomes.iter().map(|outcome| outcome.met as f64).collect();
    let kept: Vec<f64> = outcomes.iter().map(Outcome::kept).collect();
    println!("weights 1, 1, 2, each at 2×: goodput {goodput:.3}, answers {met:?}, kept {kept:.3?}");
    assert!(goodput >= 0.90, "{goodput}");
    let whole: f64 = met.iter().sum();
    for (part, weight) in met.iter().zip([1.0, 1.0, 2.0]) {
        assert!((part / whole - weight / 4.0).abs() < 0.02, "{met:?}");
    }
    assert!(kept.iter().all(|&kept| kept >= 0.97), "{kept:?}");
}
