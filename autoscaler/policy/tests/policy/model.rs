//! The latency model against simulation.
use crate::server::*;
use sluice_scaling_policy::Curve;
use sluice_scaling_policy::queueing::{MARGIN, QueueModel, quantile_ms};

fn curve(alpha_ms: f64, beta_ms: f64, batch_rows_limit: u32) -> Curve {
    Curve { alpha_ms, beta_ms, batch_rows_limit, samples: 1000 }
}

/// Simulated quantiles of one slot (or several behind one queue) under Poisson groups of `group` rows.
fn simulate<const N: usize>(
    curve: Curve,
    rows_per_second: f64,
    group: u32,
    slots: usize,
    quantiles: [f64; N],
    seed: u64,
) -> [f64; N] {
    let mut rng = rng(seed);
    let mut servers = Servers::new(curve, slots);
    let mut at = 0.0;
    while servers.latencies.len() < 80_000 {
        at += exponential(&mut rng, 1000.0 * f64::from(group) / rows_per_second);
        (0..group).for_each(|_| servers.arrive(at));
    }
    let mut latencies: Vec<f64> = servers.latencies.iter().skip(5000).map(|(_, l)| *l).collect();
    quantiles.map(|q| quantile(&mut latencies, q))
}

#[test]
fn quantiles_of_one_slot_are_those_of_the_simulation() {
    let mut worst: (f64, f64) = (0.0, 0.0);
    for (alpha, beta, limit) in
        [(2.0, 0.1, 64), (20.0, 4.0, 8), (10.0, 5.0, 32), (5.0, 5.0, 1), (20.0, 1.0, 16)]
    {
        let curve = curve(alpha, beta, limit);
        for load in [0.05, 0.15, 0.3, 0.5, 0.7, 0.85] {
            let rate = load * curve.capacity_rows_per_second();
            let quantiles = [0.5, 0.95, 0.99];
            for (q, simulated) in quantiles.into_iter().zip(simulate(curve, rate, 1, 1, quantiles, 7)) {
                let error = quantile_ms(&curve, rate, q) / simulated - 1.0;
                println!(
                    "α {alpha} β {beta} B {limit} load {load} q {q}: {simulated:.2} ms, error {:+.1} %",
                    error * 100.0
                );
                if q > 0.9 {
                    worst = (worst.0.min(error), worst.1.max(error));
                }
            }
        }
    }
    println!("worst {worst:?}");
    assert!(worst.0 > 1.0 / MARGIN - 1.0, "never more optimistic than the margin covers: {worst:?}");
    assert!(worst.1 < 0.15, "nor wasteful: {worst:?}");
}

#[test]
fn one_queue_for_several_replicas_is_no_slower_than_predicted_for_its_share() {
    let curve = curve(20.0, 4.0, 8);
    for slots in [2, 4, 8] {
        for load in [0.3, 0.6, 0.8] {
            let rate = load * curve.capacity_rows_per_second();
            let simulated = simulate(curve, rate * f64::from(slots), 1, slots as usize, [0.99], 11)[0];
            let predicted = quantile_ms(&curve, rate, 0.99) * MARGIN;
            assert!(simulated <= predicted, "{slots} slots at {load}: {simulated} > {predicted}");
        }
    }
}

#[test]
fn bursty_arrivals_are_predicted_slower_as_they_are() {
    let curve = curve(10.0, 2.0, 32);
    for group in [4, 8] {
        let slot = QueueModel::new(&curve, 0.99, f64::from(group));
        for load in [0.3, 0.6, 0.8] {
            let rate = load * curve.capacity_rows_per_second();
            let simulated = simulate(curve, rate, group, 1, [0.99], 13)[0];
            let error = slot.quantile_ms(rate) / simulated - 1.0;
            println!("groups of {group} at {load}: {:+.1} %", error * 100.0);
            assert!((-0.12..0.2).contains(&error), "groups of {group} at {load}: {:+.1} %", error * 100.0);
        }
    }
}

#[test]
fn the_rate_within_an_objective_meets_it_in_simulation() {
    for (alpha, beta, limit, objective) in
        [(2.0, 0.1, 64, 15.0), (20.0, 4.0, 8, 100.0), (20.0, 4.0, 8, 60.0), (50.0, 10.0, 16, 500.0)]
    {
        let curve = curve(alpha, beta, limit);
        let rate = QueueModel::new(&curve, 0.99, 1.0).rows_per_second_within(objective, 1.0).unwrap();
        let simulated = simulate(curve, rate, 1, 1, [0.99], 17)[0];
        println!(
            "α {alpha} β {beta} B {limit}: {rate:.1} rows/s of {:.1}: p99 {simulated:.1} of {objective} ms",
            curve.capacity_rows_per_second()
        );
        assert!(simulated <= objective, "{simulated} > {objective} at {rate} rows/s");
    }
}

#[test]
fn no_rate_is_within_an_objective_below_one_lone_row() {
    let slot = QueueModel::new(&curve(20.0, 4.0, 8), 0.99, 1.0);
    assert_eq!(slot.rows_per_second_within(23.0, 1.0), None);
    assert!(slot.rows_per_second_within(30.0, 1.0).is_some());
}

#[test]
fn a_saturated_slot_has_no_finite_latency() {
    let curve = curve(20.0, 4.0, 8);
    assert!(quantile_ms(&curve, curve.capacity_rows_per_second(), 0.99).is_infinite());
    assert!(quantile_ms(&curve, f64::NAN, 0.99).is_infinite());
    assert!(quantile_ms(&curve, 0.0, 0.99).is_finite());
}
