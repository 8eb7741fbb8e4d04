//! What the settings say about the batches of one model, taken over whenever they change.

use sluice_batch_policy::{BatchLimits, BatchSizes, SequenceLimits};

use crate::queue::ModelHandle;
use crate::settings::Deferral;

/// Of one model.
pub(super) struct Limits {
    pub(super) objective_us: u64,
    pub(super) hold_us: u64,
    pub(super) sizes: BatchSizes,
    /// Whether what waits may wait for more although a slot is free.
    pub(super) defers: bool,
    pub(super) sequences: SequenceLimits,
    bytes: u64,
    tokens: u64,
}

impl Limits {
    /// By the settings now; the gauge of the objective is set too.
    pub(super) fn of(handle: &ModelHandle) -> Self {
        let settings = handle.settings.now();
        let model = settings.batching.of_model(&handle.model);
        handle.metrics.set_objective(model.objective_ms);
        Self {
            objective_us: model.objective_ms.saturating_mul(1000),
            hold_us: settings.holding.hold_ms.saturating_mul(1000),
            sizes: model.sizes(),
            defers: settings.batching.deferral == Deferral::Auto,
            sequences: SequenceLimits {
                most: settings.sequences.max_sequences,
                idle_us: settings.sequences.sequence_idle_ms.saturating_mul(1000),
            },
            bytes: model.max_batch_bytes.unwrap_or(u64::MAX),
            tokens: model.max_batch_tokens.unwrap_or(u64::MAX),
        }
    }

    /// For a cut.
    pub(super) fn batch(&self) -> BatchLimits<'_> {
        BatchLimits { bytes: self.bytes, tokens: self.tokens, sizes: &self.sizes }
    }
}
