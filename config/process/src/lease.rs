//! Leader election: one Lease (coordination.k8s.io/v1), held by at most one of several replicas, which acts.
//!
//! ```text
//!  Lease ──get──▶ Candidate::decide (pure) ──▶ Create │ Take │ Renew ──write, guarded by resourceVersion──▶ Lease
//!                       ▲                └────▶ Wait
//!                 own clock only
//! ```
//!
//! As client-go does it, no clock of another machine is trusted: a holder has failed when its record did not
//! change for the record's duration *by this process's clock*. The holder itself gives up after two thirds of
//! that, counted from before its last write was sent, so it has stopped before another can begin.
//!
//! Needs `get`, `create` and `update` on the one Lease in its namespace.

mod candidate;
mod store;

use std::time::Duration;

use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use candidate::{Candidate, Step};
use store::{ApiStore, LeaseStore, Written};

/// Time limit of the last write, which releases the Lease while the process is stopping.
const RELEASE_DEADLINE: Duration = Duration::from_secs(2);

/// Name of the Lease, identity of this process, and the Lease's periods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseSettings {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Identity of this process, unique among the replicas, such as the pod's name.
    pub identity: String,
    /// Time for which others wait for a holder that does not renew. Whole seconds, at least 1.
    pub duration: Duration,
    /// Interval at which the holder renews and the others read the Lease. Well below two thirds of `duration`.
    pub renew_every: Duration,
}

impl LeaseSettings {
    /// Creates settings of a Lease of 15 s that is renewed every 3 s.
    pub fn new(namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
            duration: Duration::from_secs(15),
            renew_every: Duration::from_secs(3),
        }
    }
}

/// Keeps trying to hold the Lease until `stop`. The receiver has `true` while this process leads.
///
/// It becomes `false` before another process can take over: when the API server could not be reached for two thirds of
/// the duration, and when another process is found to hold the Lease. On `stop` it becomes `false`, and then the Lease
/// is released, so that the others need not wait.
pub fn hold(
    client: Client,
    settings: LeaseSettings,
    stop: CancellationToken,
) -> (watch::Receiver<bool>, JoinHandle<()>) {
    let (leads, leading) = watch::channel(false);
    let store = ApiStore::new(client, &settings.namespace);
    (leading, tokio::spawn(run(store, settings, leads, stop)))
}

async fn run(
    store: impl LeaseStore,
    settings: LeaseSettings,
    leads: watch::Sender<bool>,
    stop: CancellationToken,
) {
    let mut candidate = Candidate::new(&settings.name, &settings.identity, settings.duration);
    let mut trouble = String::new();
    loop {
        // A call may not outlive the Lease: the end of the Lease would go unnoticed.
        let now = Instant::now();
        let left = candidate.leads_until().filter(|until| *until > now);
        let limit = left.map_or(settings.duration, |until| until - now);
        let outcome = tokio::select! {
            outcome = timeout(limit, attempt(&store, &mut candidate)) => outcome,
            () = stop.cancelled() => break,
        };
        let outcome = outcome.unwrap_or_else(|_| Err(format!("no answer within {limit:?}")));
        let now = Instant::now();
        publish(&leads, candidate.leads(now), &settings);
        match outcome {
            Ok(()) => trouble.clear(),
            Err(error) if error != trouble => {
                tracing::warn!(
                    lease = settings.name,
                    error,
                    "Failed to read or write the Lease; trying again."
                );
                trouble = error;
            }
            Err(_) => {}
        }
        let pause = candidate.pause(now, settings.renew_every);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => break,
        }
        publish(&leads, candidate.leads(Instant::now()), &settings);
    }
    publish(&leads, false, &settings);
    // The Lease is read again: a write whose response never came may have succeeded.
    if let Ok(Err(error)) = timeout(RELEASE_DEADLINE, release(&store, &candidate)).await {
        tracing::info!(lease = settings.name, error, "Failed to release the Lease; it expires by itself.");
    }
}

fn publish(leads: &watch::Sender<bool>, now: bool, settings: &LeaseSettings) {
    let changed = leads.send_if_modified(|before| std::mem::replace(before, now) != now);
    if changed {
        let message = if now { "This process leads now." } else { "This process does not lead any more." };
        tracing::info!(lease = settings.name, identity = settings.identity, "{message}");
    }
}

/// Reads the Lease once and, where the candidate decides so, writes it once.
async fn attempt(store: &impl LeaseStore, candidate: &mut Candidate) -> Result<(), String> {
    let lease = store.get(candidate.lease_name()).await?;
    let step = candidate.decide(lease.as_ref(), Instant::now(), k8s_openapi::jiff::Timestamp::now());
    let sent = Instant::now();
    let written = match step {
        Step::Wait => return Ok(()),
        Step::Create(lease) => store.create(lease).await?,
        Step::Replace(lease) => store.replace(lease).await?,
    };
    match written {
        Written::Done(lease) => candidate.wrote(&lease, sent),
        // Another process was faster: the next read shows which.
        Written::Conflict => candidate.lost(),
    }
    Ok(())
}

async fn release(store: &impl LeaseStore, candidate: &Candidate) -> Result<(), String> {
    let Some(lease) = store.get(candidate.lease_name()).await? else { return Ok(()) };
    match candidate.released(lease, k8s_openapi::jiff::Timestamp::now()) {
        Some(lease) => store.replace(lease).await.map(|_| ()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
