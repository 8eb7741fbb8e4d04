//! Metrics of lifting.

use std::time::Duration;

use ::metrics::{counter, gauge, histogram};
use sluice_config::metric_names::preloader;

use crate::gates::{Action, Decision, Reason, Why};

/// Upper bounds of this module's histograms, in seconds.
pub(crate) const BUCKETS: &[(&str, &[f64])] = &[(
    preloader::LIFT_LATENCY_SECONDS,
    &[0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0],
)];

/// Exports all counters at 0, so that they exist before their first increment.
pub(super) fn start() {
    for why in Why::ALL {
        counter!(preloader::GATES_LIFTED_TOTAL, "why" => why.label()).increment(0);
    }
    counter!(preloader::LIFTS_REFUSED_TOTAL).increment(0);
    waiting(&[]);
}

/// Sets the number of waiting pods by reason.
pub(super) fn waiting(decisions: &[Decision]) {
    for reason in Reason::ALL {
        let count = decisions.iter().filter(|decision| decision.action == Action::Wait(reason)).count();
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        gauge!(preloader::GATED_PODS, "reason" => reason.label()).set(count);
    }
}

/// Counts a lifted gate, and the time from the change that made it possible.
pub(super) fn lifted(why: Why, after: Duration) {
    counter!(preloader::GATES_LIFTED_TOTAL, "why" => why.label()).increment(1);
    histogram!(preloader::LIFT_LATENCY_SECONDS).record(after.as_secs_f64());
}

/// Counts a lift that the API server refused.
pub(super) fn refused() {
    counter!(preloader::LIFTS_REFUSED_TOTAL).increment(1);
}
