//! How streams are admitted.

use super::table::{Setting, settings_group};
use super::{InvalidSetting, Streaming};

settings_group! {
    /// Streams
    pub struct StreamSettings {
        /// Whether streams (OpenAI, generate) are admitted by a learned limit.
        ///
        /// `off`: streams pass through as they come, unlimited and unmeasured.
        streaming: Streaming = Streaming::Auto, Setting::new("streaming");
        /// Minimum of the learned limit of streams per model and model server.
        min_streams: u32 = 1, Setting::new("minStreams").file_only();
        /// Limit of streams before anything is learned.
        initial_streams: u32 = 32, Setting::new("initialStreams").file_only();
        /// Maximum of the learned limit of streams per model and model server.
        max_streams: u32 = 1024, Setting::new("maxStreams");
        /// Maximum number of requests that wait to become streams, per model; more are 429.
        max_waiting_streams: usize = 1024, Setting::new("maxWaitingStreams").file_only();
        /// Time within which a stream without a deadline of its own must have started.
        ///
        /// 429 where that cannot be.
        stream_wait_ms: u64 = 10_000, Setting::new("streamWaitMs");
        /// Maximum bytes of a stream's request that is read ahead, for its model and its tokens.
        ///
        /// A longer request is streamed and counts under `model="other"`.
        stream_peek_bytes: usize = 256 << 10, Setting::new("streamPeekBytes").file_only();
    }
}

impl StreamSettings {
    pub(super) fn check(&self) -> Result<(), InvalidSetting> {
        let limits = [self.min_streams, self.initial_streams, self.max_streams];
        if limits[0] > 0 && limits.is_sorted() {
            return Ok(());
        }
        let problem = format!(
            "minStreams {}, initialStreams {} and maxStreams {} must be at least 1 and in this order",
            limits[0], limits[1], limits[2]
        );
        Err(InvalidSetting { field: "initialStreams", problem })
    }
}
