//! Polls the state of a gateway's upstreams, by one task per gateway.

use std::time::Duration;

use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::fetch::{FetchError, Fetcher};

/// Time between two polls.
const POLL_EVERY: Duration = Duration::from_millis(200);
/// Time limit of a poll.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum size of a response.
const MOST_BYTES: usize = 1 << 20;
/// Number of refused connections in a row after which the gateway's process counts as gone, and its requests with it.
const REFUSALS_OF_THE_GONE: u32 = 5;

/// State of an upstream that takes traffic.
const READY: &str = "ready";

/// One model server as the gateway sees it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Upstream {
    /// Name in the members file.
    pub name: String,
    /// `connecting`, `warming`, `ready`, `draining` or `down`.
    pub state: String,
}

/// Result of a poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GatewayReport {
    /// The gateway was not polled yet.
    Unknown,
    /// The gateway listed its upstreams.
    Listed(Vec<Upstream>),
    /// The poll failed.
    Unreachable {
        /// Whether the connection was refused.
        refused: bool,
        /// Error message.
        error: String,
    },
}

/// Result of a poll with its time. One from before a change says nothing about the change.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    /// When the poll was started.
    pub asked_at: Instant,
    /// Result.
    pub report: GatewayReport,
}

impl Snapshot {
    /// Returns whether the upstream takes traffic; `None` where the gateway did not answer.
    pub(super) fn is_ready(&self, name: &str) -> Option<bool> {
        match &self.report {
            GatewayReport::Listed(upstreams) => {
                Some(upstreams.iter().any(|upstream| upstream.name == name && upstream.state == READY))
            }
            _ => None,
        }
    }

    /// Returns whether the gateway still lists the upstream; `None` where the gateway did not answer.
    pub(super) fn lists(&self, name: &str) -> Option<bool> {
        match &self.report {
            GatewayReport::Listed(upstreams) => Some(upstreams.iter().any(|upstream| upstream.name == name)),
            _ => None,
        }
    }
}

/// Result of waiting for a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drained {
    /// The gateway has forgotten the upstream.
    Forgotten,
    /// The gateway is gone.
    GatewayGone,
    /// The gateway still lists it, or did not answer.
    TimedOut,
}

/// Polls the gateway at `admin_url` until `stop`. The receiver always has the newest result.
pub(super) fn follow(admin_url: &str, stop: CancellationToken) -> watch::Receiver<Snapshot> {
    let url = format!("{}/upstreams", admin_url.trim_end_matches('/'));
    let fetcher = Fetcher::new(TIMEOUT, MOST_BYTES);
    let (sender, receiver) =
        watch::channel(Snapshot { asked_at: Instant::now(), report: GatewayReport::Unknown });
    tokio::spawn(async move {
        loop {
            let asked_at = Instant::now();
            let report = ask(&fetcher, &url).await;
            sender.send_replace(Snapshot { asked_at, report });
            tokio::select! {
                () = tokio::time::sleep(POLL_EVERY) => {}
                () = stop.cancelled() => return,
            }
        }
    });
    receiver
}

async fn ask(fetcher: &Fetcher, url: &str) -> GatewayReport {
    #[derive(Deserialize)]
    struct UpstreamList {
        upstreams: Vec<Upstream>,
    }
    let unreachable = |error: &FetchError| GatewayReport::Unreachable {
        refused: error.is_refused(),
        error: error.to_string(),
    };
    match fetcher.get_ok(url).await {
        Ok(body) => match serde_json::from_slice::<UpstreamList>(&body) {
            Ok(answer) => GatewayReport::Listed(answer.upstreams),
            Err(error) => GatewayReport::Unreachable { refused: false, error: format!("GET {url}: {error}") },
        },
        Err(error) => unreachable(&error),
    }
}

/// Waits until the gateway no longer lists `name`, counting only polls started after `since`.
pub(super) async fn drained(
    gateway: &mut watch::Receiver<Snapshot>,
    name: &str,
    since: Instant,
    within: Duration,
) -> Drained {
    let wait = async {
        let mut refusals = 0;
        loop {
            {
                let snapshot = gateway.borrow_and_update();
                if snapshot.asked_at >= since {
                    match &snapshot.report {
                        GatewayReport::Unreachable { refused: true, .. } => refusals += 1,
                        _ if snapshot.lists(name) == Some(false) => return Drained::Forgotten,
                        _ => refusals = 0,
                    }
                }
            }
            if refusals >= REFUSALS_OF_THE_GONE || gateway.changed().await.is_err() {
                return Drained::GatewayGone;
            }
        }
    };
    tokio::time::timeout(within, wait).await.unwrap_or(Drained::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(name: &str, state: &str) -> GatewayReport {
        GatewayReport::Listed(vec![Upstream { name: name.to_owned(), state: state.to_owned() }])
    }

    fn snapshot(report: GatewayReport) -> Snapshot {
        Snapshot { asked_at: Instant::now(), report }
    }

    const WITHIN: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn an_answer_from_before_the_removal_does_not_count() {
        let (sender, mut receiver) = watch::channel(snapshot(GatewayReport::Listed(Vec::new())));
        tokio::time::advance(Duration::from_millis(1)).await;
        let since = Instant::now();
        let waiting = tokio::spawn(async move { drained(&mut receiver, "a", since, WITHIN).await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        sender.send_replace(snapshot(listed("a", "draining")));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        sender.send_replace(snapshot(GatewayReport::Listed(Vec::new())));
        assert_eq!(waiting.await.unwrap(), Drained::Forgotten);
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_never_forgets_is_waited_for_until_the_deadline_alone() {
        let (_sender, mut receiver) = watch::channel(snapshot(listed("a", "draining")));
        assert_eq!(drained(&mut receiver, "a", Instant::now(), WITHIN).await, Drained::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_is_gone_has_no_requests_to_wait_for() {
        let refused = || snapshot(GatewayReport::Unreachable { refused: true, error: String::new() });
        let (sender, mut receiver) = watch::channel(refused());
        let since = Instant::now();
        let waiting = tokio::spawn(async move { drained(&mut receiver, "a", since, WITHIN).await });
        for _ in 0..REFUSALS_OF_THE_GONE {
            tokio::task::yield_now().await;
            sender.send_replace(refused());
        }
        assert_eq!(waiting.await.unwrap(), Drained::GatewayGone);
    }

    #[test]
    fn no_answer_is_neither_ready_nor_not_ready() {
        let unreachable = GatewayReport::Unreachable { refused: true, error: String::new() };
        let at = |report| Snapshot { asked_at: Instant::now(), report };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _guard = runtime.enter();
        assert_eq!(at(unreachable).is_ready("a"), None);
        assert_eq!(at(listed("a", "warming")).is_ready("a"), Some(false));
        assert_eq!(at(listed("a", "ready")).is_ready("a"), Some(true));
        assert_eq!(at(listed("b", "ready")).lists("a"), Some(false));
    }
}
