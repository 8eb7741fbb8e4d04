//! Bounds on what a request may contain: memory and time spent on it stay proportional to them.

/// The batcher's setting of [`Limits::tensors`], for errors.
pub(crate) const TENSORS: &str = "maxTensors";
/// The batcher's setting of [`Limits::parameters`].
pub(crate) const PARAMETERS: &str = "maxParameters";

/// Limits on one request. A request beyond one of them is refused here ([`crate::ParseErrorKind::Limit`]) and
/// never forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole body.
    pub body_bytes: usize,
    /// Bytes of the JSON part of a binary body (its tensors are bounded by `body_bytes`).
    pub header_bytes: usize,
    /// Input tensors, and requested outputs.
    pub tensors: usize,
    /// Entries of one `parameters` object.
    pub parameters: usize,
    /// Dimensions of one tensor.
    pub rank: usize,
    /// Elements of one tensor.
    pub elements: usize,
    /// Nested brackets of one tensor's JSON `data`.
    pub json_depth: usize,
}

impl Default for Limits {
    /// 64 MiB, 256 tensors, 64 parameters, rank 16, 64 Mi elements, depth 16.
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
    /// No limits beyond those of arithmetic: for the upstream's answers, whose length the reader of the body bounds.
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
