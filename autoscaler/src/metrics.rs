//! The autoscaler's own metrics, one set of handles per InferenceAutoscaler, resolved once.

use std::collections::HashMap;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use sluice_config::metric_names::autoscaler as names;
use sluice_scaling_policy::Reason;

/// Upper bounds of the histograms, seconds.
pub(crate) const BUCKETS: &[(&str, &[f64])] =
    &[(names::TICK_DURATION_SECONDS, &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5])];

/// Handles of one autoscaler's metrics. Dropping them sets the gauges to NaN: a process that does not decide any more must
/// not export old numbers.
#[derive(Debug)]
pub(crate) struct Metrics {
    name: String,
    /// Replicas asked for.
    pub desired: Gauge,
    /// Replicas that exist.
    pub current: Gauge,
    /// Replicas that take traffic.
    pub ready: Gauge,
    /// 1 while slices are missing.
    pub capacity_limited: Gauge,
    /// 1 while signals are complete and recent.
    pub metrics_fresh: Gauge,
    /// Time of one tick.
    pub tick: Histogram,
    decisions: HashMap<Reason, Counter>,
    free: Option<(String, Gauge)>,
}

impl Drop for Metrics {
    fn drop(&mut self) {
        let gauges = [&self.desired, &self.current, &self.ready, &self.capacity_limited, &self.metrics_fresh];
        gauges.into_iter().for_each(|gauge| gauge.set(f64::NAN));
    }
}

impl Metrics {
    /// Creates the handles for `namespace/name`.
    pub(crate) fn new(name: &str) -> Self {
        let label = || name.to_owned();
        Self {
            name: name.to_owned(),
            desired: gauge!(names::DESIRED_REPLICAS, "name" => label()),
            current: gauge!(names::CURRENT_REPLICAS, "name" => label()),
            ready: gauge!(names::READY_REPLICAS, "name" => label()),
            capacity_limited: gauge!(names::CAPACITY_LIMITED, "name" => label()),
            metrics_fresh: gauge!(names::METRICS_FRESH, "name" => label()),
            tick: histogram!(names::TICK_DURATION_SECONDS, "name" => label()),
            decisions: HashMap::new(),
            free: None,
        }
    }

    /// Counts a decision.
    pub(crate) fn decided(&mut self, reason: Reason) {
        let name = &self.name;
        self.decisions
            .entry(reason)
            .or_insert_with(|| {
                counter!(names::DECISIONS_TOTAL, "name" => name.clone(), "reason" => format!("{reason:?}"))
            })
            .increment(1);
    }

    /// Sets the free slices of a profile; `None` (not known) is exported as NaN, not zero.
    pub(crate) fn free(&mut self, profile: &str, slices: Option<u32>) {
        if self.free.as_ref().is_none_or(|(known, _)| known != profile) {
            self.free =
                Some((profile.to_owned(), gauge!(names::FREE_SLICES, "profile" => profile.to_owned())));
        }
        if let Some((_, gauge)) = &self.free {
            gauge.set(slices.map_or(f64::NAN, f64::from));
        }
    }
}
