//! How sequences are bound to model servers.

use super::table::{Bounds, Setting, settings_group};

settings_group! {
    /// Sequences
    pub struct SequenceSettings {
        /// Maximum number of sequences per model whose model server is remembered.
        max_sequences: usize = 8192, Setting::new("maxSequences").file_only().bounds(Bounds::AtLeastOne);
        /// Time without a step after which a sequence is forgotten.
        ///
        /// Set it longer than your model servers keep their state (Triton: `max_sequence_idle_microseconds`, 1 s where it is not
        /// set).
        sequence_idle_ms: u64 = 600_000,
            Setting::new("sequenceIdleMs").file_only().bounds(Bounds::AtLeastOne);
    }
}
