//! Limits on what a request may contain: they bound the memory and time that are spent on it.

/// Name of the batcher's setting for [`Limits::tensors`], for errors.
pub(crate) const TENSORS: &str = "maxTensors";
/// Name of the batcher's setting for [`Limits::parameters`], for errors.
pub(crate) const PARAMETERS: &str = "maxParameters";

/// Limits on one request. A request that exceeds one of them is rejected ([`crate::ParseErrorKind::Limit`]) and never
/// forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Maximum bytes of the whole body.
    pub body_bytes: usize,
    /// Maximum bytes of the JSON part of a binary body (its tensors are bounded by `body_bytes`).
    pub header_bytes: usize,
    /// Maximum number of input tensors, and of requested outputs.
    pub tensors: usize,
    /// Maximum entries of one `parameters` object.
    pub parameters: usize,
    /// Maximum dimensions of one tensor.
    pub rank: usize,
    /// Maximum elements of one tensor.
    pub elements: usize,
    /// Maximum depth of nested brackets in one tensor's JSON `data`.
    pub json_depth: usize,
}

impl Default for Limits {
    /// Returns limits of 64 MiB, 256 tensors, 64 parameters, rank 16, 64 Mi elements and depth 16.
    fn default() -> Self {
        Self {
            body_bytes: 64 << 20,
            header_bytes: 64 << 20,
            tensors: 256,
            parameters: 64,
            rank: 16,
            elements: 64 << 20,
            json_depth: 16,
        }
    }
}

impl Limits {
    /// Limits that only keep arithmetic from overflowing: for model servers' responses, whose length is bounded where their
    /// body is read.
    pub(crate) const UNBOUNDED: Self = Self {
        body_bytes: usize::MAX,
        header_bytes: usize::MAX,
        tensors: usize::MAX,
        parameters: usize::MAX,
        rank: 255,
        elements: usize::MAX,
        json_depth: 255,
    };
}
