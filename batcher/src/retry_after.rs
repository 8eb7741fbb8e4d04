//! When a client that was turned away should try again.
//!
//! Every refusal takes its time from here, and here alone it is rounded. REST clients read it as `Retry-After` (seconds) and
//! `retry-after-ms`, gRPC clients as `RetryInfo`. What a wait is predicted to be, the policy says
//! ([`sluice_batch_policy::Admission`], forecasts of queues, stream admission).

/// Time after which a client should try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryAfter {
    /// In milliseconds, at least 1.
    ms: u64,
}

impl RetryAfter {
    /// The time where no wait is predicted: nothing has been measured, or another cause than load must go away first.
    pub const UNPREDICTED: Self = Self { ms: 1000 };
    /// The time while no model server is warm and requests are refused: clients should try another replica first.
    pub const WHILE_COLD: Self = Self { ms: 1000 };

    /// Returns the time for a wait of `wait_us` microseconds, rounded up to a millisecond.
    pub fn wait_us(wait_us: u64) -> Self {
        Self { ms: wait_us.div_ceil(1000).max(1) }
    }

    /// Returns the time for a predicted wait in microseconds; `None`: there is no prediction.
    pub fn predicted(wait_us: Option<u64>) -> Self {
        wait_us.map_or(Self::UNPREDICTED, Self::wait_us)
    }

    /// Returns milliseconds, at least 1: `retry-after-ms`.
    pub fn ms(self) -> u64 {
        self.ms
    }

    /// Returns whole seconds, rounded up, at least 1: `Retry-After`.
    pub fn seconds(self) -> u64 {
        self.ms.div_ceil(1000).max(1)
    }

    /// Returns seconds and nanoseconds, not rounded: `google.rpc.RetryInfo`.
    pub fn seconds_and_nanos(self) -> (i64, i32) {
        (i64::try_from(self.ms / 1000).unwrap_or(i64::MAX), (self.ms % 1000) as i32 * 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_rounded_up_and_never_zero() {
        assert_eq!(RetryAfter::wait_us(0).ms(), 1);
        assert_eq!(RetryAfter::wait_us(1_000_001).ms(), 1001);
        assert_eq!(RetryAfter::wait_us(1_000_001).seconds(), 2);
        assert_eq!(RetryAfter::wait_us(1_000_001).seconds_and_nanos(), (1, 1_000_000));
        assert_eq!(RetryAfter::predicted(None), RetryAfter::UNPREDICTED);
    }
}
