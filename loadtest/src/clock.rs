//! Monotonic clock in nanoseconds, and sleeping until a point of it. tokio's timers tick at 1 ms; code that must be
//! more exact runs on a thread of its own and keeps time by these functions.

use std::num::NonZeroU64;

use rustix::process::setpriority_process;
use rustix::thread::{clock_nanosleep_absolute, gettid, set_current_timer_slack};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Nanoseconds in a second.
pub(crate) const NS_PER_S: f64 = 1e9;

/// Returns the time of CLOCK_MONOTONIC, in nanoseconds.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Converts a time of CLOCK_MONOTONIC for system calls.
pub(crate) fn timespec(at_ns: u64) -> Timespec {
    Timespec { tv_sec: (at_ns / 1_000_000_000) as i64, tv_nsec: (at_ns % 1_000_000_000) as _ }
}

/// Sleeps until `at_ns` (CLOCK_MONOTONIC); returns at once if that has passed.
pub(crate) fn sleep_until_ns(at_ns: u64) {
    // A signal may end the sleep early; the target is absolute, so that the rest is simply slept again.
    while now_ns() < at_ns {
        let _ = clock_nanosleep_absolute(ClockId::Monotonic, &timespec(at_ns));
    }
}

/// Niceness of threads that keep time: ahead of ordinary work on a busy machine, where the system allows it.
const NICENESS: i32 = -15;

/// Makes this thread keep time exactly: the kernel fires its timers at once instead of up to 50 µs later together
/// with others, and prefers it to ordinary work. Without CAP_SYS_NICE it has no such preference.
pub(crate) fn keep_time_on_this_thread() {
    if let Err(error) = set_current_timer_slack(NonZeroU64::new(1)) {
        tracing::debug!(%error, "Failed to reduce the timer slack of a time-keeping thread.");
    }
    // On Linux a thread's id is a process id to setpriority, and only that thread is meant.
    if let Err(error) = setpriority_process(Some(gettid()), NICENESS) {
        tracing::debug!(%error, "Failed to raise the priority of a time-keeping thread.");
    }
}
