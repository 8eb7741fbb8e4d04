//! Whether any process renews the Lease, judged by when it last changed, on this process's own clock.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// Interval between two reads of the Lease.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Shortest time without a change after which a Lease is stale, even if its duration is shorter.
const AT_LEAST: Duration = Duration::from_secs(15);

/// Returns a receiver that is true while the Lease is stale, and the future that reads the Lease and never ends.
pub(super) fn watch(
    client: Client,
    namespace: &str,
    name: &'static str,
) -> (watch::Receiver<bool>, impl Future<Output = ()> + use<>) {
    let leases = Api::<Lease>::namespaced(client, namespace);
    let (says, stale) = watch::channel(false);
    let looking = async move {
        let mut staleness = Staleness::new(Instant::now());
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let is_stale = match timeout(LOOK_EVERY, leases.get_opt(name)).await {
                Ok(Ok(lease)) => staleness.saw(lease.as_ref(), Instant::now()),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "Failed to read the preloader's Lease.");
                    staleness.was_blind(Instant::now())
                }
                Err(_) => staleness.was_blind(Instant::now()),
            };
            if says.send_if_modified(|before| std::mem::replace(before, is_stale) != is_stale) {
                tracing::info!(is_stale, "The staleness of the preloader's Lease has changed.");
            }
        }
    };
    (stale, looking)
}

/// Last version of the Lease, and when it was first seen.
#[derive(Debug)]
struct Staleness {
    version: Option<String>,
    since: Instant,
}

impl Staleness {
    fn new(now: Instant) -> Self {
        Self { version: None, since: now }
    }

    /// Records a read of the Lease; returns whether it is stale. A missing Lease becomes stale after the same time.
    fn saw(&mut self, lease: Option<&Lease>, now: Instant) -> bool {
        let version = lease.and_then(|lease| lease.metadata.resource_version.clone());
        if version != self.version {
            *self = Self { version, since: now };
        }
        let promised = lease.and_then(|lease| lease.spec.as_ref()?.lease_duration_seconds);
        let promised = promised.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0);
        now - self.since >= Duration::from_secs(promised).max(AT_LEAST)
    }

    /// Records a failed read, which restarts the count; returns that the Lease is not stale.
    fn was_blind(&mut self, now: Instant) -> bool {
        self.since = now;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::coordination::v1::LeaseSpec;

    fn lease(version: u32, holder: &str, seconds: i32) -> Lease {
        let mut lease = Lease::default();
        lease.metadata.resource_version = Some(version.to_string());
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(seconds),
            ..LeaseSpec::default()
        });
        lease
    }

    #[test]
    fn a_lease_is_stale_when_it_has_not_changed_for_its_duration() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut staleness = Staleness::new(start);
        assert!(!staleness.saw(Some(&lease(1, "a", 15)), at(0)));
        assert!(!staleness.saw(Some(&lease(2, "a", 15)), at(10)));
        assert!(!staleness.saw(Some(&lease(2, "a", 15)), at(24)));
        assert!(staleness.saw(Some(&lease(2, "a", 15)), at(25)));
        assert!(!staleness.saw(Some(&lease(3, "b", 15)), at(26)), "somebody took it");
        assert!(!staleness.saw(Some(&lease(3, "b", 60)), at(85)));
        assert!(staleness.saw(Some(&lease(3, "b", 60)), at(86)));
    }

    #[test]
    fn a_lease_that_was_given_back_or_never_was_is_stale_after_a_while() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut staleness = Staleness::new(start);
        assert!(!staleness.saw(None, at(5)));
        assert!(staleness.saw(None, at(15)));
        assert!(!staleness.saw(Some(&lease(1, "", 1)), at(20)), "another replica may take it at once");
        assert!(staleness.saw(Some(&lease(1, "", 1)), at(35)));
    }

    #[test]
    fn whoever_could_not_look_begins_anew() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut staleness = Staleness::new(start);
        assert!(!staleness.saw(Some(&lease(1, "a", 15)), at(0)));
        assert!(!staleness.was_blind(at(20)));
        assert!(
            !staleness.saw(Some(&lease(1, "a", 15)), at(25)),
            "its holder could not reach the server either"
        );
        assert!(staleness.saw(Some(&lease(1, "a", 15)), at(35)));
    }
}
