//! Wires the program in a cluster: objects from the API server, replicas as pods, and of several autoscalers one leader.
//!
//! ```text
//!  Lease ──leads──▶ term: controllers run ◀──objects── watch
//!                     └─ lost: all of them are dropped at once; nothing is written any more
//! ```
//!
//! Watches run in every process, so that the next leader knows the cluster from its first moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use sluice_inventory_watch::InventoryWatch;
use sluice_process::Readiness;
use sluice_process::lease::{self, LeaseSettings};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Process, RunError};
use crate::clock::{Clock, timestamp};
use crate::controller::Context;
use crate::controllers::Controllers;
use crate::decisions::DecisionLogs;
use crate::kubernetes::events::ApiEvents;
use crate::kubernetes::objects::Objects;
use crate::kubernetes::status::ApiStatus;
use crate::platform::Target;
use crate::platform::kubernetes::KubernetesPlatform;
use crate::settings::Settings;
use crate::signals::{HttpScraper, Prometheus, SecondSource};

/// Name of the Lease.
const LEASE: &str = "sluice-autoscaler";
/// Time limit of a query to Prometheus.
const PROMETHEUS_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) async fn run(settings: Settings) -> Result<(), RunError> {
    let process = Process::begin(&settings).await?;
    let client = client().await?;
    let served = serve(client, &settings, &process.readiness, &process.stop).await;
    process.end().await;
    served
}

/// Runs everything but the process around it until `stop`.
pub async fn serve(
    client: Client,
    settings: &Settings,
    readiness: &Readiness,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    let identity = identity(settings);
    // The watches and the Lease outlive the controllers, which end first.
    let end = CancellationToken::new();
    let (leads, lease) = lease::hold(client.clone(), lease_settings(settings, &identity), end.clone());
    let parts = Parts::start(client, settings, &identity, leads, &end)?;
    tokio::select! {
        () = parts.listed() => {
            readiness.set_ready();
            parts.follow(stop).await;
        }
        () = stop.cancelled() => {}
    }
    readiness.set_not_ready("stopping");
    end.cancel();
    let _ = lease.await;
    Ok(())
}

/// Parts that controllers are made of.
struct Parts {
    settings: Settings,
    leads: watch::Receiver<bool>,
    objects: Objects,
    platform: Arc<KubernetesPlatform>,
    status: Arc<ApiStatus>,
    context: Arc<Context>,
}

impl Parts {
    fn start(
        client: Client,
        settings: &Settings,
        identity: &str,
        leads: watch::Receiver<bool>,
        end: &CancellationToken,
    ) -> Result<Self, RunError> {
        let namespace = settings.namespace.as_deref();
        let inventory = InventoryWatch::start(client.clone(), end.clone());
        let platform =
            Arc::new(KubernetesPlatform::start(client.clone(), namespace, inventory, leads.clone(), end));
        let objects = Objects::start(client.clone(), namespace, end);
        let status = Arc::new(ApiStatus::new(client.clone(), leads.clone()));
        let second: Option<Arc<dyn SecondSource>> = match &settings.prometheus_url {
            Some(url) => Some(Arc::new(
                Prometheus::new(url, PROMETHEUS_TIMEOUT)
                    .map_err(|error| RunError::Cluster(error.to_string()))?,
            )),
            None => None,
        };
        let context = Arc::new(Context {
            platform: Arc::clone(&platform) as _,
            scraper: Arc::new(HttpScraper::new(Duration::from_millis(settings.scrape_timeout_ms))),
            second,
            status: Arc::clone(&status) as _,
            events: Arc::new(ApiEvents::start(client, identity, leads.clone())),
            clock: Clock::system(),
        });
        Ok(Self { settings: settings.clone(), leads, objects, platform, status, context })
    }

    async fn listed(&self) {
        tokio::join!(self.objects.listed(), self.platform.ready());
        tracing::info!("Listed everything that is watched.");
    }

    /// Runs the controllers whenever this process leads, until `stop`.
    async fn follow(&self, stop: &CancellationToken) {
        let mut leads = self.leads.clone();
        loop {
            tokio::select! {
                turn = leads.wait_for(|leads| *leads) => if turn.is_err() { return },
                () = stop.cancelled() => return,
            }
            tracing::info!("This process is the leader now; starting to decide.");
            let mut controllers = Controllers::new(
                Arc::clone(&self.context),
                self.settings.timing(),
                DecisionLogs::open(&self.settings.state_dir, self.settings.decision_log_bytes),
            );
            tokio::select! {
                () = self.control(&mut controllers) => {}
                _ = leads.wait_for(|leads| !*leads) => {
                    tracing::warn!("This process is not the leader any more; nothing is decided or written.");
                }
                () = stop.cancelled() => {}
            }
            controllers.abort().await;
        }
    }

    /// Keeps a controller for each object, and writes the reason into the status of ignored ones.
    async fn control(&self, controllers: &mut Controllers) {
        let mut changed = self.objects.changed();
        let mut warned: BTreeMap<Target, String> = BTreeMap::new();
        loop {
            changed.mark_unchanged();
            if let Some(found) = self.objects.found() {
                let all: BTreeSet<Target> =
                    found.autoscalers.keys().chain(found.ignored.keys()).cloned().collect();
                controllers.follow(found.autoscalers).await;
                controllers.keep_logs(all.iter());
                warned.retain(|name, _| found.ignored.contains_key(name));
                for (name, ignored) in found.ignored {
                    let at = timestamp(self.context.clock.now_ms());
                    let problem = ignored.message.clone();
                    if warned.get(&name) != Some(&problem) {
                        tracing::warn!(%name, problem, "Ignoring an InferenceAutoscaler.");
                        warned.insert(name.clone(), problem);
                    }
                    if let Err(error) = self.status.write_ignored(&name, ignored, at).await {
                        tracing::warn!(%name, %error, "Failed to write the status.");
                    }
                }
            }
            if changed.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Creates a client from the pod's service account, or from the kubeconfig.
async fn client() -> Result<Client, RunError> {
    // An error only means that a provider is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::try_default().await.map_err(|error| RunError::Cluster(error.to_string()))
}

fn identity(settings: &Settings) -> String {
    settings
        .lease_identity
        .clone()
        .unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned())
}

fn lease_settings(settings: &Settings, identity: &str) -> LeaseSettings {
    let duration = Duration::from_secs(u64::from(settings.lease_seconds));
    LeaseSettings {
        duration,
        // A fifth, so that two attempts may fail within the two thirds after which a holder gives up.
        renew_every: duration / 5,
        ..LeaseSettings::new(&settings.lease_namespace, LEASE, identity)
    }
}
