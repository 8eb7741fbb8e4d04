//! The whole program without its process, and readers of what it has written.

use serde_json::Value;
use sluice_autoscaler::run::kubernetes::serve;
use sluice_autoscaler::settings::{PlatformKind, Settings};
use sluice_process::Readiness;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::objects::{AUTOSCALERS, DEPLOYMENTS};
use sluice_testkit::api_server::ApiServer;

/// One running autoscaler.
pub(crate) struct Program {
    stop: CancellationToken,
    task: JoinHandle<()>,
    pub(crate) readiness: Readiness,
    _state: tempfile::TempDir,
}

/// Starts an autoscaler with short ticks.
pub(crate) fn start(api: &ApiServer, identity: &str, change: impl FnOnce(&mut Settings)) -> Program {
    if let Ok(level) = std::env::var("SLUICE_TEST_LOG") {
        let _ = sluice_process::logging::init(Default::default(), &level);
    }
    let state = tempfile::tempdir().unwrap();
    let mut settings = Settings {
        platform: PlatformKind::Kubernetes,
        lease_identity: Some(identity.to_owned()),
        lease_seconds: 3,
        state_dir: state.path().to_owned(),
        tick_ms: 50,
        demand_window_ms: 1000,
        burst_window_ms: 500,
        trend_window_ms: 2000,
        stale_ms: 600,
        ..Settings::default()
    };
    change(&mut settings);
    settings.validate().unwrap();
    let (stop, readiness) = (CancellationToken::new(), Readiness::default());
    let (client, ends, ready) = (api.client(), stop.clone(), readiness.clone());
    let task = tokio::spawn(async move { serve(client, &settings, &ready, &ends).await.unwrap() });
    Program { stop, task, readiness, _state: state }
}

impl Program {
    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

pub(crate) fn status(api: &ApiServer, name: &str) -> Value {
    api.get(AUTOSCALERS, "ns", name).unwrap()["status"].clone()
}

/// Returns status and reason of a condition.
pub(crate) fn condition(api: &ApiServer, name: &str, wanted: &str) -> (String, String) {
    let status = status(api, name);
    let found = status["conditions"].as_array().into_iter().flatten().find(|one| one["type"] == wanted);
    let text = |part: &str| found.and_then(|one| one[part].as_str()).unwrap_or_default().to_owned();
    (text("status"), text("reason"))
}

/// Returns the replicas that are asked of the Deployment `bert`.
pub(crate) fn replicas(api: &ApiServer) -> u64 {
    api.get(DEPLOYMENTS, "ns", "bert").unwrap()["spec"]["replicas"].as_u64().unwrap()
}

/// Returns the paths that were written, without the Lease's.
pub(crate) fn written(api: &ApiServer) -> Vec<String> {
    api.writes().into_iter().map(|(_, path, _)| path).filter(|path| !path.contains("leases")).collect()
}
