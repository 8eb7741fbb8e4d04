//! The whole program: what runs in which mode.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::Client;
use sluice_process::admin::{self, Admin, NoRoutes};
use sluice_process::lease::{self, LeaseSettings};
use sluice_process::{Readiness, files, metrics, shutdown};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::certificates::{self, Served};
use crate::inject::Sidecar;
use crate::inject::resources::{NO_LIMIT, Resources, Share};
use crate::lifting::{self, LiftSettings};
use crate::metrics::{ADMISSION_BUCKETS, ADMISSION_SECONDS};
use crate::settings::{Mode, Settings};
use crate::webhook::lookup::ApiLookup;
use crate::webhook::{self, Webhook};

/// How long the webhook answers on after SIGTERM: API servers hear of it with a delay, and a pod that they
/// cannot ask about is refused.
const PROPAGATION: Duration = Duration::from_secs(5);

/// Runs until a signal comes.
///
/// # Errors
/// When it cannot start: what, and what to do.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let stop = shutdown::on_signals().context("signal handlers")?;
    files::raise_limit();
    let mut buckets: Vec<(&str, &[f64])> = vec![(ADMISSION_SECONDS, &ADMISSION_BUCKETS)];
    buckets.extend_from_slice(lifting::BUCKETS);
    let metrics = metrics::install(&buckets).map_err(anyhow::Error::msg)?;
    let client = Client::try_default()
        .await
        .context("there is no API server: neither KUBECONFIG nor the service account of a pod names one")?;
    let admin = TcpListener::bind(settings.admin_listen)
        .await
        .with_context(|| format!("admin port {}", settings.admin_listen))?;
    let readiness = Readiness::default();
    let end = CancellationToken::new();
    let admin_settings = Admin { metrics, readiness: readiness.clone(), routes: Arc::new(NoRoutes) };
    let serving = tokio::spawn(admin::serve(admin, admin_settings, end.clone()));
    match settings.mode {
        Mode::Preloader => preload(client, settings, &readiness, stop).await?,
        Mode::Watchdog => watch(client, settings, &readiness, stop).await,
    }
    end.cancel();
    let _ = serving.await;
    Ok(())
}

async fn preload(
    client: Client,
    settings: Settings,
    readiness: &Readiness,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(settings.webhook_listen)
        .await
        .with_context(|| format!("webhook {}", settings.webhook_listen))?;
    let served = Arc::new(Served::default());
    let webhook = Webhook {
        sidecar: sidecar(&settings),
        namespace: settings.namespace.clone(),
        lookup: Arc::new(ApiLookup { client: client.clone() }),
    };
    let close = CancellationToken::new();
    let answering = tokio::spawn(webhook::serve(listener, webhook, Arc::clone(&served), close.clone()));
    tokio::spawn(certificates::keep(
        client.clone(),
        settings.namespace.clone(),
        served,
        readiness.clone(),
        stop.clone(),
    ));
    let lease = LeaseSettings::new(&settings.namespace, lifting::LEASE, &settings.identity);
    let (leads, holding) = lease::hold(client.clone(), lease, stop.clone());
    let lifting = tokio::spawn(lifting::run(client, lift_settings(&settings), leads, stop.clone()));
    tracing::info!(identity = settings.identity, webhook = %settings.webhook_listen, "The preloader is up.");
    stop.cancelled().await;
    readiness.set_not_ready("stopping");
    tokio::time::sleep(PROPAGATION).await;
    close.cancel();
    answering.await.context("the webhook")??;
    lifting.await.context("the lifting of gates")?;
    holding.await.context("the Lease")
}

async fn watch(client: Client, settings: Settings, readiness: &Readiness, stop: CancellationToken) {
    tracing::info!(lease = lifting::LEASE, "The watchdog is up.");
    readiness.set_ready();
    lifting::watchdog(client, lift_settings(&settings), stop).await;
}

fn lift_settings(settings: &Settings) -> LiftSettings {
    LiftSettings {
        gate_deadline: settings.gate_deadline(),
        identity: settings.identity.clone(),
        namespace: settings.namespace.clone(),
    }
}

fn sidecar(settings: &Settings) -> Sidecar {
    Sidecar {
        image: settings.sidecar_image.clone(),
        pull_secret: settings.sidecar_pull_secret.clone(),
        resources: Resources {
            cpu: share(&settings.sidecar_cpu, &settings.sidecar_cpu_limit),
            memory: share(&settings.sidecar_memory, &settings.sidecar_memory_limit),
        },
        drain_deadline_ms: settings.drain_deadline_ms,
        propagation_ms: settings.propagation_ms,
    }
}

fn share(request: &str, limit: &str) -> Share {
    let limit = (limit != NO_LIMIT).then(|| Quantity(limit.to_owned()));
    Share { request: Quantity(request.to_owned()), limit }
}
