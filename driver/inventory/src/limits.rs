//! Limits of resource.k8s.io/v1 (k8s.io/api/resource/v1, types.go). The stricter of 1.34 and later is
//! taken where both are satisfied by it, so that one layout serves every version of its form.

/// Devices per slice where any consumes counters (≥ 1.35; 128 otherwise).
pub(crate) const DEVICES_PER_SLICE: usize = 64;
/// Counter sets per slice (≥ 1.35).
pub(crate) const COUNTER_SETS_PER_SLICE: usize = 8;
/// Counters per set (≥ 1.35).
pub(crate) const COUNTERS_PER_SET: usize = 32;
/// Counters over all sets of a slice (1.34).
pub(crate) const COUNTERS_PER_SLICE_COMBINED: usize = 32;
/// Counters consumed by all devices of a slice (1.34).
pub(crate) const CONSUMED_COUNTERS_PER_SLICE: usize = 1024;
/// Bytes of a string or version attribute.
pub(crate) const ATTRIBUTE_BYTES: usize = 64;
/// Bytes of a driver's name.
pub(crate) const DRIVER_NAME_BYTES: usize = 63;
/// Bytes of a DNS label (a device's name, a counter's).
pub(crate) const LABEL_BYTES: usize = 63;
/// Bytes of a DNS subdomain (an object's name, a node's).
pub(crate) const SUBDOMAIN_BYTES: usize = 253;
