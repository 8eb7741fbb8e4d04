//! What is measured about lifting.

use std::time::Duration;

use ::metrics::{counter, gauge, histogram};
use sluice_config::metric_names::preloader;

use crate::gates::{Action, Decision, Reason, Why};

/// Upper bounds of this module's histograms, for the process's recorder.
pub const BUCKETS: &[(&str, &[f64])] = &[(
    preloader::LIFT_LATENCY_SECONDS,
    &[0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0],
)];

/// Counters that have not counted yet are there, too.
pub(super) fn start() {
    for why in Why::ALL {
        counter!(preloader::GATES_LIFTED_TOTAL, "why" => why.label()).increment(0);
    }
    counter!(preloader::LIFTS_REFUSED_TOTAL).increment(0);
    waiting(&[]);
}

/// How many pods wait, by reason.
pub(super) fn waiting(decisions: &[Decision]) {
    for reason in Reason::ALL {
        let count = decisions.iter().filter(|decision| decision.action == Action::Wait(reason)).count();
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        gauge!(preloader::GATED_PODS, "reason" => reason.label()).set(count);
    }
}

/// A gate is gone.
pub(super) fn lifted(why: Why, after: Duration) {
    counter!(preloader::GATES_LIFTED_TOTAL, "why" => why.label()).increment(1);
    histogram!(preloader::LIFT_LATENCY_SECONDS).record(after.as_secs_f64());
}

/// The API server refused to lift one.
pub(super) fn refused() {
    counter!(preloader::LIFTS_REFUSED_TOTAL).increment(1);
}
