//! Limits of resource.k8s.io/v1 (k8s.io/api/resource/v1, types.go). Where one value satisfies both 1.34 and later
//! versions, the stricter one is used, so that one packing serves every version with the same layout.

/// Maximum devices of a slice in which any device consumes counters (≥ 1.35; 128 otherwise).
pub(crate) const DEVICES_PER_SLICE: usize = 64;
/// Maximum counter sets of a slice (≥ 1.35).
pub(crate) const COUNTER_SETS_PER_SLICE: usize = 8;
/// Maximum counters of a set (≥ 1.35).
pub(crate) const COUNTERS_PER_SET: usize = 32;
/// Maximum counters of all sets of a slice (1.34).
pub(crate) const COUNTERS_PER_SLICE_COMBINED: usize = 32;
/// Maximum counters that all devices of a slice consume (1.34).
pub(crate) const CONSUMED_COUNTERS_PER_SLICE: usize = 1024;
/// Maximum bytes of a string or version attribute.
pub(crate) const ATTRIBUTE_BYTES: usize = 64;
/// Maximum bytes of a driver's name.
pub(crate) const DRIVER_NAME_BYTES: usize = 63;
/// Maximum bytes of a DNS label, such as the name of a device or counter.
pub(crate) const LABEL_BYTES: usize = 63;
/// Maximum bytes of a DNS subdomain, such as the name of an object or node.
pub(crate) const SUBDOMAIN_BYTES: usize = 253;
