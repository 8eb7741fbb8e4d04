//! Wires the program on one machine: objects from files, replicas as processes.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use sluice_config::api::InferenceAutoscaler;
use sluice_config::objects::ObjectDir;
use sluice_process::Readiness;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{Process, RunError, io_error};
use crate::announcements::Silent;
use crate::clock::Clock;
use crate::controller::Context;
use crate::controllers::Controllers;
use crate::decisions::DecisionLogs;
use crate::manifests::{self, Manifests};
use crate::platform::Target;
use crate::platform::local::supervisor::{Command, Supervisor};
use crate::platform::local::{LocalConfig, LocalPlatform};
use crate::settings::{OnExit, Settings};
use crate::signals::HttpScraper;

pub(super) async fn run(settings: Settings) -> Result<(), RunError> {
    let manifests = Manifests::read(&settings.objects)?;
    let lock = lock(&settings.state_dir)?;
    let process = Process::begin(&settings).await?;

    let config = LocalConfig {
        store: ObjectDir::new(&settings.store),
        kubelet_dir: settings.kubelet_dir.clone(),
        cdi_dir: settings.cdi_dir.clone(),
        state_dir: settings.state_dir.clone(),
    };
    let (supervisor, mailbox, messages) = Supervisor::adopt(config.clone(), manifests.deployments.clone())
        .map_err(io_error("replica records and claims of the last run"))?;
    let supervisor = tokio::spawn(supervisor.run(messages));
    let context = Context {
        platform: Arc::new(LocalPlatform::new(mailbox.clone())),
        scraper: Arc::new(HttpScraper::new(Duration::from_millis(settings.scrape_timeout_ms))),
        second: None,
        status: Arc::new(config.store),
        events: Arc::new(Silent),
        clock: Clock::system(),
    };
    let controllers = Controllers::new(
        Arc::new(context),
        settings.timing(),
        DecisionLogs::open(&settings.state_dir, settings.decision_log_bytes),
    );
    let readiness = process.readiness.clone();
    control(controllers, manifests, &settings, &mailbox, readiness, process.stop.clone()).await;

    let left = match settings.on_exit {
        OnExit::Stop => stop_all(&mailbox).await,
        OnExit::Keep => {
            tracing::info!("Leaving the model servers running.");
            Vec::new()
        }
    };
    supervisor.abort();
    let _ = supervisor.await;
    process.end().await;
    drop(lock);
    if left.is_empty() { Ok(()) } else { Err(RunError::LeftBehind(left)) }
}

/// Runs the controllers and follows the object files until `stop`.
async fn control(
    mut controllers: Controllers,
    manifests: Manifests,
    settings: &Settings,
    mailbox: &mpsc::Sender<Command>,
    readiness: Readiness,
    stop: CancellationToken,
) {
    follow(&mut controllers, manifests.autoscalers).await;
    readiness.set_ready();
    let (sender, mut changes) = mpsc::channel(1);
    let files = settings.objects.clone();
    let following = tokio::spawn(manifests::follow(files, stop.clone(), sender));
    loop {
        let changed = tokio::select! {
            changed = changes.recv() => changed,
            () = stop.cancelled() => None,
        };
        let Some(manifests) = changed else { break };
        tracing::info!("The object files changed.");
        // Targets come first, so that no controller looks for one that is not defined yet.
        let _ = mailbox.send(Command::Deployments(manifests.deployments)).await;
        follow(&mut controllers, manifests.autoscalers).await;
    }
    readiness.set_not_ready("stopping");
    drop(changes);
    controllers.end().await;
    let _ = following.await;
}

async fn follow(controllers: &mut Controllers, objects: BTreeMap<Target, Arc<InferenceAutoscaler>>) {
    let all: Vec<Target> = objects.keys().cloned().collect();
    controllers.follow(objects).await;
    controllers.keep_logs(all.iter());
}

async fn stop_all(mailbox: &mpsc::Sender<Command>) -> Vec<String> {
    tracing::info!("Draining and stopping all replicas.");
    let (reply, answer) = oneshot::channel();
    if mailbox.send(Command::StopAll { reply }).await.is_err() {
        return Vec::new();
    }
    answer.await.unwrap_or_default()
}

/// Locks the state directory, because two autoscalers would both own the same replicas. The lock ends with the process,
/// also with kill -9.
fn lock(state_dir: &Path) -> Result<File, RunError> {
    let path = state_dir.join("lock");
    let failed = |source| RunError::Io { what: format!("state directory {}", state_dir.display()), source };
    std::fs::create_dir_all(state_dir).map_err(failed)?;
    let file = File::create(&path).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(RunError::Locked(state_dir.to_owned())),
        Err(error) => Err(failed(error.into())),
    }
}
