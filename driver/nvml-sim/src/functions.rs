//! Names of NVML's functions, for the files that use them: latencies and faults.

use crate::abi;

/// Names of groups of functions in `latencyMs`.
pub(crate) const OPERATIONS: &[(&str, &[&str])] = &[
    ("init", &["nvmlInit", "nvmlInit_v2", "nvmlInitWithFlags"]),
    ("migModeSet", &["nvmlDeviceSetMigMode"]),
    ("gpuInstanceCreate", &["nvmlDeviceCreateGpuInstance", "nvmlDeviceCreateGpuInstanceWithPlacement"]),
    ("gpuInstanceDestroy", &["nvmlGpuInstanceDestroy"]),
    (
        "computeInstanceCreate",
        &["nvmlGpuInstanceCreateComputeInstance", "nvmlGpuInstanceCreateComputeInstanceWithPlacement"],
    ),
    ("computeInstanceDestroy", &["nvmlComputeInstanceDestroy"]),
];

/// Iterates over the functions that do something. The others return NOT_SUPPORTED and have neither latency nor
/// faults.
pub(crate) fn simulated() -> impl Iterator<Item = &'static str> {
    abi::NAMES.iter().copied().flatten().copied()
}

/// Returns the functions that `key` stands for: those of an operation, or the one of that name. Empty for an unknown
/// key.
pub(crate) fn named_by(key: &str) -> Vec<&'static str> {
    match OPERATIONS.iter().find(|(operation, _)| *operation == key) {
        Some((_, functions)) => functions.to_vec(),
        None => simulated().filter(|name| *name == key).collect(),
    }
}

/// Returns the known name that is most similar to `key`, for error texts.
pub(crate) fn nearest(key: &str) -> &'static str {
    let operations = OPERATIONS.iter().map(|(operation, _)| *operation);
    operations
        .chain(simulated())
        .max_by(|a, b| strsim::jaro_winkler(a, key).total_cmp(&strsim::jaro_winkler(b, key)))
        .unwrap_or("nvmlInit_v2")
}
