//! What is set for the queue of one model.

use crate::{BatchLimits, BatchSizes, SequenceLimits};

/// Settings of one model's queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineSettings {
    /// Latency objective, microseconds.
    pub objective_us: u64,
    /// Time for which a request is kept while no model server is there, microseconds.
    pub hold_us: u64,
    /// Sizes that a batch may have.
    pub sizes: BatchSizes,
    /// Maximum bytes of bodies in a batch.
    pub bytes: u64,
    /// Maximum tokens of a batch.
    pub tokens: u64,
    /// Whether requests may wait for a larger batch although a slot is free.
    pub defers: bool,
    /// Bounds on what is remembered of sequences.
    pub sequences: SequenceLimits,
    /// Slots of each model server; 0: to be found out.
    pub slots_per_server: u32,
    /// Weight of this model among those that share a model server's slots.
    pub slot_weight: u32,
}

impl EngineSettings {
    /// Returns the limits of a batch.
    pub(super) fn batch(&self) -> BatchLimits<'_> {
        BatchLimits { bytes: self.bytes, tokens: self.tokens, sizes: &self.sizes }
    }
}
