//! Timer with a resolution below tokio's millisecond: a timerfd in the generator's own event loop, so that the
//! thread that wakes is the thread that sends.

use std::io;
use std::os::fd::OwnedFd;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::clock;

/// Timer on the monotonic clock.
#[derive(Debug)]
pub(super) struct Pacer {
    timer: AsyncFd<OwnedFd>,
}

impl Pacer {
    /// Creates a timer. Must be called inside a tokio runtime with I/O.
    pub(super) fn new() -> io::Result<Self> {
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe, because a type could close its descriptor under the event loop; \
                      an OwnedFd that is never given out does not"
        )]
        let timer = AsyncFd::with_interest(timer, Interest::READABLE)?;
        Ok(Self { timer })
    }

    /// Waits until `at_ns` (nanoseconds of CLOCK_MONOTONIC); returns at once if that has passed.
    pub(super) async fn wait_until(&self, at_ns: u64) -> io::Result<()> {
        if clock::now_ns() >= at_ns {
            return Ok(());
        }
        let once = Itimerspec { it_interval: clock::timespec(0), it_value: clock::timespec(at_ns) };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once)?;
        loop {
            let mut ready = self.timer.readable().await?;
            let mut expirations = [0_u8; 8];
            let read = ready.try_io(|timer| Ok(rustix::io::read(timer, &mut expirations)?));
            match read {
                Ok(read) => {
                    read?;
                    return Ok(());
                }
                Err(_not_ready) => {}
            }
        }
    }
}
