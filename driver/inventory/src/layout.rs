//! Layout of ResourceSlices, which depends on the version of the API server.

/// Layout of the ResourceSlices of a pool, by what the API server accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SliceLayout {
    /// Kubernetes 1.34: a slice has its counters and the devices that use them.
    Combined,
    /// Kubernetes ≥ 1.35: a slice has either counters or devices.
    Split,
}
