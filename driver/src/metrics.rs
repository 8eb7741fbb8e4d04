//! Metrics of the driver.

use std::collections::BTreeSet;
use std::future::Future;

use metrics::{Counter, Histogram, counter, gauge, histogram};
use sluice_config::metric_names::driver as names;
use tokio::time::Instant;

use crate::checkpoint::Checkpoint;
use crate::device_state::ClaimDevice;
use crate::health::{Fault, Mark};

/// Upper bounds of the durations of prepare and unprepare, in seconds. Creating an instance takes tenths of a second
/// to seconds, and the kubelet gives up after 45 s.
const DURATION_BOUNDS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 45.0, 90.0];

/// Bounds of the histograms, for the recorder.
pub(crate) const BUCKETS: &[(&str, &[f64])] = &[
    (names::PREPARE_DURATION_SECONDS, DURATION_BOUNDS),
    (names::UNPREPARE_DURATION_SECONDS, DURATION_BOUNDS),
];

/// Operation of the kubelet on one claim.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Operation {
    /// One claim of NodePrepareResources.
    Prepare,
    /// One claim of NodeUnprepareResources.
    Unprepare,
}

#[derive(Clone)]
struct OperationHandles {
    duration: Histogram,
    ok: Counter,
    error: Counter,
}

/// Handles of the metrics of claims. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ClaimMetrics {
    prepare: OperationHandles,
    unprepare: OperationHandles,
}

impl ClaimMetrics {
    /// Resolves the handles with the recorder of the process.
    #[must_use]
    pub(crate) fn new() -> Self {
        let handles = |operation: &'static str, duration: &'static str| OperationHandles {
            duration: histogram!(duration),
            ok: counter!(names::OPERATIONS_TOTAL, "operation" => operation, "outcome" => "ok"),
            error: counter!(names::OPERATIONS_TOTAL, "operation" => operation, "outcome" => "error"),
        };
        Self {
            prepare: handles("prepare", names::PREPARE_DURATION_SECONDS),
            unprepare: handles("unprepare", names::UNPREPARE_DURATION_SECONDS),
        }
    }

    /// Runs an operation and records its duration and outcome.
    pub(crate) async fn timed<T, E>(
        &self,
        operation: Operation,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let handles = match operation {
            Operation::Prepare => &self.prepare,
            Operation::Unprepare => &self.unprepare,
        };
        let begin = Instant::now();
        let result = work.await;
        handles.duration.record(begin.elapsed().as_secs_f64());
        let outcome = if result.is_ok() { &handles.ok } else { &handles.error };
        outcome.increment(1);
        result
    }
}

impl Default for ClaimMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Creates the series of these profiles with the value 0, so that graphs can tell "none" from "unknown".
pub(crate) fn announce<'a>(profiles: impl IntoIterator<Item = &'a str>) {
    for profile in profiles {
        gauge!(names::SLICES_IN_USE, "profile" => profile.to_owned()).set(0.0);
        counter!(names::SLICE_SECONDS_TOTAL, "profile" => profile.to_owned()).absolute(0);
    }
}

/// Sets slices in use and slice-seconds to their values at `now_ms` (milliseconds of the Unix clock). It is called
/// before each scrape, so that time accrues while a slice is in use.
///
/// `gone` are devices of claims that do not exist any more: claims hold them, and they are not in use.
pub(crate) fn export_usage(checkpoint: &Checkpoint, gone: &BTreeSet<ClaimDevice>, now_ms: u64) {
    for (profile, usage) in checkpoint.usage(now_ms, gone) {
        gauge!(names::SLICES_IN_USE, "profile" => profile.clone()).set(usage.in_use as f64);
        // The counter has whole seconds; the fraction follows at a later scrape. `absolute` keeps the larger value,
        // so a clock that is set back does not make the counter fall.
        counter!(names::SLICE_SECONDS_TOTAL, "profile" => profile).absolute(usage.slice_seconds as u64);
    }
}

/// Sets the number of devices that are withheld from claims, by reason.
pub(crate) fn export_faults<'a>(marks: impl Iterator<Item = &'a Mark> + Clone) {
    let count = |wanted: Mark| marks.clone().filter(|mark| **mark == wanted).count() as f64;
    for fault in Fault::ALL {
        gauge!(names::DEVICES_WITHHELD, "reason" => fault.name()).set(count(Mark::Tainted(fault)));
    }
    gauge!(names::DEVICES_WITHHELD, "reason" => "foreign-instance").set(count(Mark::Withheld));
}

/// Sets whether each neighbour was seen on the node, by its name.
pub(crate) fn export_neighbours(neighbours: impl Iterator<Item = (&'static str, bool)>) {
    for (name, is_seen) in neighbours {
        gauge!(names::NEIGHBOURS, "neighbour" => name).set(f64::from(u8::from(is_seen)));
    }
}

/// Counts a critical error of a device.
pub(crate) fn count_xid(device: &str) {
    counter!(names::XID_EVENTS_TOTAL, "device" => device.to_owned()).increment(1);
}
