//! The webhook's certificate: created here, kept in one Secret, published to the API server, renewed before it expires.
//!
//! ```text
//!  Secret sluice-preloader-tls ◀─ create, or renew ─┐
//!        │ watch                                    │
//!        ▼                                          │
//!   every replica: reconcile ── due? ───────────────┘
//!        ├─▶ caBundle of the MutatingWebhookConfiguration (first: what is served must be trusted already)
//!        └─▶ Served (then)
//! ```
//!
//! The first replica creates it. A write fails where another replica wrote meanwhile; the others then use what that one
//! wrote.

mod bundle;
mod trust;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use arc_swap::ArcSwapOption;
use futures::StreamExt;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sluice_process::Readiness;
use sluice_process::events::EventRecorder;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use bundle::{Bundle, Due};

/// Name of the Service, and of the webhook's configuration.
pub const NAME: &str = "sluice-preloader";
/// Name of the Secret.
const SECRET: &str = "sluice-preloader-tls";
/// Pause after a failed attempt.
const RETRY: Duration = Duration::from_secs(2);
/// Longest time between two reconciliations, also while the watches report nothing.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// Maximum number of events that wait for the API server.
const MOST_EVENTS: usize = 16;

/// Certificate that the webhook serves; empty until there is one.
#[derive(Debug, Default)]
pub struct Served(ArcSwapOption<CertifiedKey>);

impl Served {
    /// Replaces the certificate that new connections get.
    pub fn set(&self, key: CertifiedKey) {
        self.0.store(Some(Arc::new(key)));
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

/// Keeps the certificate valid, trusted and served until `stop`. Sets `readiness` once it is all three.
pub async fn keep(
    client: Client,
    namespace: String,
    served: Arc<Served>,
    readiness: Readiness,
    stop: CancellationToken,
) {
    // Every replica repairs, so every replica publishes.
    let always = watch::channel(true).1;
    let mut keeper = Keeper {
        events: EventRecorder::start(client.clone(), NAME, NAME, MOST_EVENTS, always),
        repairs: trust::Repairs::default(),
        secrets: Api::namespaced(client.clone(), &namespace),
        configurations: Api::all(client),
        names: [NAME.to_owned(), format!("{NAME}.{namespace}"), format!("{NAME}.{namespace}.svc")],
        served,
    };
    let only = |name: &str| watcher::Config::default().fields(&format!("metadata.name={name}"));
    let secret = watcher(keeper.secrets.clone(), only(SECRET)).default_backoff().map(|event| event.map(drop));
    let trusted =
        watcher(keeper.configurations.clone(), only(NAME)).default_backoff().map(|event| event.map(drop));
    let mut events = std::pin::pin!(futures::stream::select(secret, trusted));
    loop {
        let pause = match keeper.reconcile().await {
            Ok(pause) => {
                readiness.set_ready();
                pause
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(error, "Failed to reconcile the webhook's certificate; trying again.");
                // A certificate that was served before is still served.
                if keeper.served.0.load().is_none() {
                    readiness.set_not_ready(error);
                }
                RETRY
            }
        };
        let wait = async {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = events.next() => {}
            }
            // Events that arrive together cause one reconciliation.
            tokio::time::sleep(Duration::from_millis(100)).await;
            while futures::FutureExt::now_or_never(events.next()).is_some() {}
        };
        tokio::select! {
            () = wait => {}
            () = stop.cancelled() => return,
        }
    }
}

struct Keeper {
    events: EventRecorder,
    repairs: trust::Repairs,
    secrets: Api<Secret>,
    configurations: Api<MutatingWebhookConfiguration>,
    names: [String; 3],
    served: Arc<Served>,
}

impl Keeper {
    /// Reconciles once. Returns the time until the next reconciliation is due.
    async fn reconcile(&mut self) -> anyhow::Result<Duration> {
        let now_s = now_s()?;
        let bundle = self.bundle(now_s).await?;
        let publishing =
            trust::publish(&self.configurations, bundle.ca_certificates(), &mut self.repairs, &self.events);
        let contested = publishing.await?;
        self.served.set(bundle.certified_key()?);
        Ok(match bundle.due(now_s) {
            Due::In(seconds) => Duration::from_secs(seconds).min(contested.unwrap_or(LONGEST_PAUSE)),
            Due::Certificate | Due::Everything => RETRY,
        })
    }

    /// Returns the bundle of the Secret; creates or renews it first where that is due.
    async fn bundle(&self, now_s: u64) -> anyhow::Result<Bundle> {
        let stored =
            self.secrets.get_opt(SECRET).await.with_context(|| format!("reading Secret {SECRET}"))?;
        let Some(secret) = stored else {
            let bundle = Bundle::new(&self.names, now_s, None)?;
            let written = self.secrets.create(&PostParams::default(), &bundle.to_secret(SECRET)).await;
            return self.written(written, bundle, "made");
        };
        let read = Bundle::from_secret(&secret);
        let bundle = match &read {
            Ok(bundle) => match bundle.due(now_s) {
                Due::In(_) => return Ok(bundle.clone()),
                Due::Certificate => bundle.renewed(&self.names, now_s)?,
                Due::Everything => Bundle::new(&self.names, now_s, Some(bundle))?,
            },
            Err(problem) => {
                tracing::warn!(
                    problem,
                    secret = SECRET,
                    "The Secret is not valid; creating a new certificate."
                );
                Bundle::new(&self.names, now_s, None)?
            }
        };
        let mut renewed = bundle.to_secret(SECRET);
        // Guarded by the resourceVersion: what a faster replica wrote stays.
        renewed.metadata.resource_version = secret.metadata.resource_version;
        let written = self.secrets.replace(SECRET, &PostParams::default(), &renewed).await;
        self.written(written, bundle, "renewed")
    }

    fn written(&self, answer: kube::Result<Secret>, bundle: Bundle, what: &str) -> anyhow::Result<Bundle> {
        match answer {
            Ok(_) => {
                tracing::info!(secret = SECRET, "The webhook's certificate was {what}.");
                Ok(bundle)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {
                bail!("another replica writes Secret {SECRET} at this moment")
            }
            Err(error) => Err(error).with_context(|| format!("writing Secret {SECRET}")),
        }
    }
}

fn now_s() -> anyhow::Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs())
}
