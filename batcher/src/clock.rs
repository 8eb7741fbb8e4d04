//! The process's clock: counts microseconds since its start, the unit of time of the policy crate.

use std::time::Duration;

use tokio::time::Instant;

/// A monotonic clock that counts microseconds from its start.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// Creates a clock that starts now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Returns the microseconds since the start.
    pub fn now_us(self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Converts microseconds since the start to an instant, for timers.
    pub fn instant(self, us: u64) -> Instant {
        self.0 + Duration::from_micros(us)
    }
}
