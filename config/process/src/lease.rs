//! Which of several replicas acts: one Lease (coordination.k8s.io/v1), held by at most one of them.
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

/// How long the last write, which gives the Lease back, may take while the process is stopping.
const RELEASE_DEADLINE: Duration = Duration::from_secs(2);

/// Which Lease, who asks for it, and how long it is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseSettings {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Who this process is; unique among the replicas. A pod's name will do.
    pub identity: String,
    /// How long others wait for a holder that shows no sign of life. Whole seconds, at least 1.
    pub duration: Duration,
    /// How often the holder renews and the others look. Well below two thirds of `duration`.
    pub renew_every: Duration,
}

impl LeaseSettings {
    /// A Lease of 15 s, renewed every 3 s.
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

/// Keeps trying to hold the Lease until `stop`; the receiver tells whether this process leads now.
///
/// It says false before another can take over: when the API server could not be reached for two thirds of the
/// duration, and when somebody else holds the Lease after all. On `stop` it says false and then gives the Lease
/// back, so that another need not wait.
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
        // A call that outlives the Lease must not hide that it is over.
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
                    "The Lease could not be asked for; it is tried again."
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
    // Asked of the Lease and not of memory: a write whose answer never came may have been done.
    if let Ok(Err(error)) = timeout(RELEASE_DEADLINE, release(&store, &candidate)).await {
        tracing::info!(
            lease = settings.name,
            error,
            "The Lease could not be given back; it runs out by itself."
        );
    }
}

fn publish(leads: &watch::Sender<bool>, now: bool, settings: &LeaseSettings) {
    let changed = leads.send_if_modified(|before| std::mem::replace(before, now) != now);
    if changed {
        let message = if now { "This process leads now." } else { "This process does not lead any more." };
        tracing::info!(lease = settings.name, identity = settings.identity, "{message}");
    }
}

/// One look at the Lease and, where the candidate says so, one write.
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
        // Somebody else was faster: the next look shows who.
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
