//! One clock for the whole process: microseconds since it was made, as the pure policy wants them.

use std::time::Duration;

use tokio::time::Instant;

/// Counts microseconds from its own start; never goes back.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Microseconds since the start.
    pub fn now_us(self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The instant of a number of microseconds, for timers.
    pub fn instant(self, us: u64) -> Instant {
        self.0 + Duration::from_micros(us)
    }
}
