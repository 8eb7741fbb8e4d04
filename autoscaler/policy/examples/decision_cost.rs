//! Prints the cost of a decision on this machine: the first for a new service curve (best of nine), and the next ones.
//!
//! `cargo run -p sluice-scaling-policy --example decision_cost`
use std::time::Instant;

use sluice_scaling_policy::{
    Behavior, Current, Curve, Findings, Free, Input, Objective, Sample, Series, Signals, Spec, Standing,
    State, Windows, decide,
};

const NOW_MS: u64 = 1_000_000;

fn input(curve: Curve, objective_ms: f64) -> Input {
    let rate = 0.6 * curve.capacity_rows_per_second();
    let samples = (0..=130_u32).map(|second| Sample {
        at_ms: NOW_MS - 130_000 + u64::from(second) * 1000,
        value: f64::from(second) * rate * 5.0,
    });
    Input {
        now_ms: NOW_MS,
        spec: Spec {
            objective: Objective { quantile: 0.99, latency_ms: objective_ms },
            min_replicas: 1,
            max_replicas: 50,
            behavior: Behavior::default(),
            scale_to_zero_after_seconds: None,
            paused: false,
            dry_run: false,
            startup_ms: 10_000,
            profile: "2g.10gb".to_owned(),
            windows: Windows::default(),
        },
        current: Current { replicas: 5, ready: 5 },
        signals: Signals {
            demand_rows: vec![Series { source: "gateway".to_owned(), samples: samples.collect() }],
            curve: Some(curve),
            ..Signals::default()
        },
        free: Free { slices: Some(50), reason: String::new() },
        standing: Standing::default(),
        findings: Findings::default(),
        state: State::default(),
    }
}

fn main() {
    println!("{:>8} {:>8} {:>6} {:>12} {:>12}", "α ms", "β ms", "B", "first ms", "next ms");
    for (alpha_ms, beta_ms, batch_rows_limit) in
        [(2.0, 0.1, 64), (20.0, 4.0, 8), (10.0, 5.0, 32), (5.0, 0.5, 256), (5.0, 5.0, 1)]
    {
        let curve = Curve { alpha_ms, beta_ms, batch_rows_limit, samples: 1000 };
        let input = input(curve, 2.5 * curve.batch_ms(batch_rows_limit));
        // Results are remembered per thread, so a fresh thread starts without any.
        let mut first_ms = f64::INFINITY;
        for _ in 0..9 {
            let cold = input.clone();
            let run = std::thread::spawn(move || {
                let started = Instant::now();
                decide(&cold);
                started.elapsed().as_secs_f64() * 1000.0
            });
            first_ms = first_ms.min(run.join().unwrap_or(f64::NAN));
        }
        decide(&input);
        let started = Instant::now();
        decide(&input);
        let next_ms = started.elapsed().as_secs_f64() * 1000.0;
        println!("{alpha_ms:>8} {beta_ms:>8} {batch_rows_limit:>6} {first_ms:>12.2} {next_ms:>12.3}");
    }
}
