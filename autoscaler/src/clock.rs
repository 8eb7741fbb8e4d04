//! Time for decisions: milliseconds since 1970 that never go back.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// The system's time when the process started, continued by the monotonic clock: a stepped system clock
/// does not shift the windows that demand is read over. Cheap to copy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    wall_at_start_ms: u64,
    start: Instant,
}

impl Clock {
    /// Starts at the system's time.
    pub(crate) fn system() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::starting_at(u64::try_from(since_1970.as_millis()).unwrap_or(0))
    }

    /// Starts at the given time, milliseconds.
    pub(crate) fn starting_at(wall_ms: u64) -> Self {
        Self { wall_at_start_ms: wall_ms, start: Instant::now() }
    }

    /// Now, milliseconds.
    pub(crate) fn now_ms(&self) -> u64 {
        let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.wall_at_start_ms.saturating_add(elapsed)
    }
}

/// A time of [`Clock::now_ms`] as Kubernetes writes it.
pub(crate) fn timestamp(ms: u64) -> jiff::Timestamp {
    i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or_default()
}
