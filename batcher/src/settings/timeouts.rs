//! How long clients may take.

use super::table::{Bounds, Setting, settings_group};

settings_group! {
    /// Slow clients
    pub struct TimeoutSettings {
        /// Maximum time of a request's head; then the connection is closed.
        ///
        /// From its first byte to its last; the first head of a connection from the accept on.
        header_timeout_ms: u64 = 10_000,
            Setting::new("headerTimeoutMs").file_only().bounds(Bounds::AtLeastOne);
        /// Maximum pause in a request's body; then 408.
        ///
        /// Not for gRPC that passes through.
        body_timeout_ms: u64 = 30_000, Setting::new("bodyTimeoutMs").file_only().bounds(Bounds::AtLeastOne);
        /// Maximum time that a client may take nothing of a response that is there for it.
        ///
        /// Then its stream is reset, or its connection closed. Holds for passed-through and streamed responses too.
        answer_timeout_ms: u64 = 60_000,
            Setting::new("answerTimeoutMs").file_only().bounds(Bounds::AtLeastOne);
        /// Maximum time that a connection may be without requests; then it is closed gracefully.
        idle_timeout_ms: u64 = 300_000, Setting::new("idleTimeoutMs").file_only().bounds(Bounds::AtLeastOne);
    }
}
