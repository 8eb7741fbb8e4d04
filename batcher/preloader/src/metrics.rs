//! Metrics of the webhook.

use std::time::Duration;

use metrics::{counter, histogram};

/// Counter with labels `hook` (`gate`, `sidecar`) and `outcome` (`patched`, `unchanged`, `refused`, `malformed`).
pub(crate) const ADMISSIONS_TOTAL: &str = "sluice_preloader_admissions_total";
/// Histogram with label `hook`: time of one answer.
pub(crate) const ADMISSION_SECONDS: &str = "sluice_preloader_admission_seconds";

/// Upper bounds of the histogram, seconds.
pub(crate) const ADMISSION_BUCKETS: [f64; 9] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 2.5, 5.0];

/// Counts one response, and the time that it took.
pub(crate) fn admission(hook: &'static str, outcome: &'static str, took: Duration) {
    counter!(ADMISSIONS_TOTAL, "hook" => hook, "outcome" => outcome).increment(1);
    histogram!(ADMISSION_SECONDS, "hook" => hook).record(took);
}
