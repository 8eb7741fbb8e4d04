//! Tracks whether the batcher wants traffic, and how it stops: a drain, which can be revoked, or SIGTERM, which cannot.
//!
//! The model container's preStop hook calls `/drain` and waits for the response. The hook also runs when only the model
//! container is restarted, so a drain without SIGTERM is revoked as soon as a new epoch is warm.
//!
//! A moment without requests does not end a drain: clients that have not heard yet that this pod is not ready still
//! send. A drain is over when all requests are answered and none has come for a while.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Mode of the batcher: whether new traffic is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// New traffic is wanted.
    Serving,
    /// New traffic is not wanted, but served; a new epoch ends this mode.
    Draining,
    /// New traffic is not wanted; this mode never ends.
    Stopping,
}

/// Response to `/drain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Drained {
    /// Whether nothing was queued or in flight at the end.
    pub drained: bool,
    /// Whether a new epoch became warm meanwhile, so that traffic is wanted again.
    pub revoked: bool,
    /// Number of requests that were still there.
    pub active: usize,
}

/// Counts requests and holds the mode.
#[derive(Debug)]
pub struct Drain {
    mode: watch::Sender<Mode>,
    active: AtomicUsize,
    ended: Notify,
    turned_away: Mutex<TurnedAway>,
}

/// Times since which traffic has not been wanted.
#[derive(Debug, Clone, Copy)]
struct TurnedAway {
    since: Instant,
    /// When the last request came in spite of that; `since` if none came.
    last: Instant,
}

impl Default for Drain {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            mode: watch::Sender::new(Mode::Serving),
            active: AtomicUsize::new(0),
            ended: Notify::new(),
            turned_away: Mutex::new(TurnedAway { since: now, last: now }),
        }
    }
}

/// Guard that counts a request until it is answered.
#[derive(Debug)]
pub struct Active<'a>(&'a Drain);

impl Drop for Active<'_> {
    fn drop(&mut self) {
        if self.0.active.fetch_sub(1, Ordering::SeqCst) == 1 && self.0.mode() != Mode::Serving {
            self.0.ended.notify_waiters();
        }
    }
}

impl Drain {
    /// Returns the mode.
    pub fn mode(&self) -> Mode {
        *self.mode.borrow()
    }

    /// Subscribes to the mode.
    pub fn subscribe(&self) -> watch::Receiver<Mode> {
        self.mode.subscribe()
    }

    /// Counts a request until the guard is dropped.
    pub fn enter(&self) -> Active<'_> {
        self.active.fetch_add(1, Ordering::SeqCst);
        if self.mode() != Mode::Serving {
            self.turned_away(|turned_away| turned_away.last = Instant::now());
        }
        Active(self)
    }

    /// Returns the number of requests that are not answered yet.
    pub fn active(&self) -> usize {
        self.active.load(Ordering::SeqCst)
    }

    /// Switches to `Stopping`. Returns since when traffic has not been wanted: a drain may have begun before.
    pub fn stop(&self) -> Instant {
        if self.mode.send_replace(Mode::Stopping) == Mode::Serving {
            self.begin();
        }
        self.turned_away(|turned_away| turned_away.since)
    }

    fn begin(&self) {
        let now = Instant::now();
        self.turned_away(|turned_away| *turned_away = TurnedAway { since: now, last: now });
    }

    fn turned_away<T>(&self, change: impl FnOnce(&mut TurnedAway) -> T) -> T {
        // Each change writes whole instants, so a panic elsewhere leaves nothing half done.
        change(&mut self.turned_away.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends a drain without SIGTERM, because a new epoch is warm.
    pub fn revoke(&self) {
        self.mode.send_if_modified(|mode| {
            let draining = *mode == Mode::Draining;
            if draining {
                *mode = Mode::Serving;
            }
            draining
        });
    }

    /// Marks traffic as not wanted and waits until all requests are answered and none has come for `silence`, at most
    /// until the deadline. `inflight` counts requests at the model servers, including streams whose response head has
    /// been sent. May be called again during a drain and after it.
    pub async fn drain(
        &self,
        deadline: Duration,
        silence: Duration,
        inflight: impl Fn() -> usize,
    ) -> Drained {
        self.mode.send_if_modified(|mode| {
            let serving = *mode == Mode::Serving;
            if serving {
                self.begin();
                *mode = Mode::Draining;
            }
            serving
        });
        let mut mode = self.mode.subscribe();
        let revoked = tokio::select! {
            () = self.until_silent(silence, &inflight) => false,
            _ = mode.wait_for(|mode| *mode == Mode::Serving) => true,
            () = tokio::time::sleep(deadline) => false,
        };
        let active = self.active().max(inflight());
        Drained { drained: active == 0 && !revoked, revoked, active }
    }

    async fn until_silent(&self, silence: Duration, inflight: &impl Fn() -> usize) {
        loop {
            let ended = self.ended.notified();
            if self.active() == 0 && inflight() == 0 {
                let silent = self.turned_away(|turned_away| turned_away.last) + silence;
                if Instant::now() >= silent {
                    return;
                }
                tokio::time::sleep_until(silent).await;
                continue;
            }
            // Streams end without a notification, so check again after a short time.
            let _ = tokio::time::timeout(Duration::from_millis(20), ended).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_the_last_answer() {
        let drain = Drain::default();
        let request = drain.enter();
        let (drained, ()) = tokio::join!(drain.drain(Duration::from_secs(60), Duration::ZERO, || 0), async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert_eq!(drain.mode(), Mode::Draining);
            drop(request);
        });
        assert_eq!(drained, Drained { drained: true, revoked: false, active: 0 });
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_ends_at_its_deadline_whatever_is_left() {
        let drain = Drain::default();
        let _request = drain.enter();
        let drained = drain.drain(Duration::from_secs(3), Duration::ZERO, || 0).await;
        assert_eq!(drained, Drained { drained: false, revoked: false, active: 1 });
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_serves_those_who_have_not_heard_of_it_and_ends_when_they_have() {
        let drain = Drain::default();
        let begun = Instant::now();
        let (drained, ()) =
            tokio::join!(drain.drain(Duration::from_secs(60), Duration::from_secs(2), || 0), async {
                for _ in 0..3 {
                    tokio::time::sleep(Duration::from_millis(1900)).await;
                    drop(drain.enter());
                }
            });
        assert!(drained.drained);
        assert_eq!(begun.elapsed().as_millis(), 3 * 1900 + 2000);
        let again = Instant::now();
        assert!(drain.drain(Duration::from_secs(60), Duration::from_secs(2), || 0).await.drained);
        assert_eq!(again.elapsed(), Duration::ZERO, "asked again, it is over already");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(drain.stop(), begun, "a stop goes on from there");
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_epoch_revokes_a_drain_but_not_a_stop() {
        let drain = Drain::default();
        let _request = drain.enter();
        let (drained, ()) = tokio::join!(drain.drain(Duration::from_secs(60), Duration::ZERO, || 0), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drain.revoke();
        });
        assert!(drained.revoked);
        assert_eq!(drain.mode(), Mode::Serving);
        drain.stop();
        drain.revoke();
        assert_eq!(drain.mode(), Mode::Stopping);
    }
}
