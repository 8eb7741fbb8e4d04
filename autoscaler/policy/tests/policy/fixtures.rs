//! Inputs that differ from a plain one in what a test is about.
use sluice_scaling_policy::*;

pub(crate) const CURVE: Curve = Curve { alpha_ms: 20.0, beta_ms: 4.0, batch_rows_limit: 8, samples: 1000 };

/// Counter samples, one a second for `seconds`, of `rate` rows per second.
pub(crate) fn counter(now_ms: u64, seconds: u64, rate: f64) -> Series {
    let samples = (0..=seconds).rev().map(|ago| {
        let at_ms = now_ms - ago * 1000;
        #[expect(clippy::cast_precision_loss, reason = "some minutes")]
        Sample { at_ms, value: (seconds - ago) as f64 * rate }
    });
    Series { source: "gateway".to_owned(), samples: samples.collect() }
}

pub(crate) fn spec() -> Spec {
    Spec {
        objective: Objective { quantile: 0.99, latency_ms: 120.0 },
        min_replicas: 1,
        max_replicas: 20,
        behavior: Behavior::default(),
        scale_to_zero_after_seconds: None,
        paused: false,
        dry_run: false,
        startup_ms: 5000,
        profile: "2g.10gb".to_owned(),
        windows: Windows::default(),
    }
}

pub(crate) const NOW: u64 = 1_000_000;

/// `replicas` ready ones under a constant `rate`, with everything known.
pub(crate) fn input(replicas: u32, rate: f64) -> Input {
    Input {
        now_ms: NOW,
        spec: spec(),
        current: Current { replicas, ready: replicas },
        signals: Signals {
            demand_rows: vec![counter(NOW, 130, rate)],
            curve: Some(CURVE),
            queue_rows: Some(Sample { at_ms: NOW, value: 0.0 }),
            ..Signals::default()
        },
        free: Free { slices: Some(100), reason: "2g.10gb: plenty".to_owned() },
        standing: Standing::default(),
        findings: Findings::default(),
        state: State { since_ms: Some(0), ..State::default() },
    }
}

/// Rows per second that one replica serves within the objective, as a decision says.
pub(crate) fn one_replica() -> f64 {
    decide(&input(1, 10.0)).steps.capacity_per_replica_rows_per_second.unwrap()
}

pub(crate) fn condition(decision: &Decision, r#type: ConditionType) -> &Condition {
    decision.conditions.iter().find(|c| c.r#type == r#type).unwrap()
}
