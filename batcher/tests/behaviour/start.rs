//! Starts a batcher on free ports, and reads its admin port.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use sluice_batcher::metrics::buckets;
use sluice_batcher::run::{Listeners, run};
use sluice_batcher::settings::{Live, Settings};
use sluice_batcher::with_settings;
use sluice_process::metrics::{Metrics, install};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::client::{Got, get, infer_json};
use crate::model::Model;

/// How long a condition may take to come true: far more than it needs on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Batcher {
    pub front: SocketAddr,
    pub admin: SocketAddr,
    pub settings: Live,
    pub stop: CancellationToken,
    pub ended: JoinHandle<()>,
}

/// Returns the recorder, of which a process has only one; tests are told apart by their models' names.
fn recorder() -> Metrics {
    static RECORDER: OnceLock<Metrics> = OnceLock::new();
    RECORDER
        .get_or_init(|| {
            if let Ok(level) = std::env::var("SLUICE_TEST_LOG") {
                sluice_process::logging::init(Default::default(), &level).unwrap();
            }
            let buckets = buckets(1000, 64);
            let buckets: Vec<(&str, &[f64])> =
                buckets.iter().map(|(name, bounds)| (*name, bounds.as_slice())).collect();
            install(&buckets).unwrap()
        })
        .clone()
}

/// Few batch sizes, so that warm-up is short; no deadline that a busy machine would miss.
pub fn settings(model: &str) -> Settings {
    with_settings!(
        Settings::default(),
        models.models = vec![model.to_owned()],
        batching.max_batch_rows = 8,
        batching.objective_ms = 60_000,
        servers.probe_ms = 20,
        holding.hold_ms = 60_000
    )
}

pub async fn start(settings: Settings) -> Batcher {
    start_at(TcpListener::bind("127.0.0.1:0").await.unwrap(), settings).await
}

/// With this front port.
pub async fn start_at(front: TcpListener, settings: Settings) -> Batcher {
    settings.validate().unwrap();
    let listeners = Listeners { front, admin: TcpListener::bind("127.0.0.1:0").await.unwrap() };
    let (front, admin) = (listeners.front.local_addr().unwrap(), listeners.admin.local_addr().unwrap());
    let stop = CancellationToken::new();
    let settings = Live::new(settings);
    let ended = tokio::spawn(run(settings.clone(), listeners, recorder(), stop.clone()));
    Batcher { front, admin, settings, stop, ended }
}

/// A sidecar of this model, ready.
pub async fn sidecar(model: &Model, settings: Settings) -> Batcher {
    let batcher = start(with_settings!(settings, servers.upstream = Some(model.upstream()))).await;
    batcher.until_ready().await;
    batcher
}

impl Batcher {
    pub async fn until_ready(&self) {
        until("the batcher is ready", async || get(self.front, "/v2/health/ready").await.status == 200).await;
    }

    /// The value of a metric of one model; 0 when it is not there yet.
    pub async fn metric(&self, name: &str, labels: &str) -> f64 {
        let text = get(self.admin, "/metrics").await.text();
        let start = format!("{name}{{{labels}}} ");
        text.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok()).unwrap_or(0.0)
    }

    /// Requests that wait to hear whether there is their model.
    pub async fn unconfirmed_waiting(&self) -> f64 {
        let text = get(self.admin, "/metrics").await.text();
        let start = "sluice_batcher_unconfirmed_waiting ";
        text.lines().find_map(|line| line.strip_prefix(start)?.parse().ok()).unwrap_or(0.0)
    }

    pub async fn upstreams(&self) -> serde_json::Value {
        serde_json::from_str(&get(self.admin, "/upstreams").await.text()).unwrap()
    }
}

/// Polls until a condition is true.
pub async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Closes the model's gate and sends one row, which is held there: whatever is sent next waits in the batcher.
pub async fn hold_with(model: &Model, front: SocketAddr, name: &'static str, id: i64) -> JoinHandle<Got> {
    model.close_gate();
    let held = tokio::spawn(async move { infer_json(front, name, &[id]).await });
    until("it is at the model", async || model.at_gate() == 1).await;
    held
}
