//! Clock of decisions: milliseconds since 1970 that never go back.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Clock that starts at the system's time and continues by the monotonic clock, so that a stepped system clock does not
/// shift the windows over demand. Cheap to copy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    wall_at_start_ms: u64,
    start: Instant,
}

impl Clock {
    /// Creates a clock that starts at the system's time.
    pub(crate) fn system() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::starting_at(u64::try_from(since_1970.as_millis()).unwrap_or(0))
    }

    /// Creates a clock that starts at the given time, milliseconds since 1970.
    pub(crate) fn starting_at(wall_ms: u64) -> Self {
        Self { wall_at_start_ms: wall_ms, start: Instant::now() }
    }

    /// Returns the time, milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> u64 {
        let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.wall_at_start_ms.saturating_add(elapsed)
    }
}

/// Converts a time of [`Clock::now_ms`] to a timestamp.
pub(crate) fn timestamp(ms: u64) -> jiff::Timestamp {
    i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or_default()
}
