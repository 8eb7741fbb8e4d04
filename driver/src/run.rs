//! Wiring: the tasks of the driver, in the order in which they start and stop.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use sluice_config::names::DRIVER;
use sluice_inventory::SliceLayout;
use sluice_process::admin::{Admin, AdminRoutes};
use sluice_process::{Readiness, admin, files, metrics, shutdown};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::cdi::{CdiDir, DriverFiles};
use crate::checkpoint::file::{StateDir, StateError};
use crate::checkpoint::store::CheckpointStore;
use crate::claims::Claims;
use crate::claims::in_progress::InProgress;
use crate::device_state::{ClaimDevice, Clock, DeviceState};
use crate::gpus::Gpus;
use crate::metrics::{BUCKETS, ClaimMetrics, export_usage};
use crate::monitor::{Monitor, Views};
use crate::neighbours;
use crate::nvml::NodeGpus;
use crate::plugin::check::check;
use crate::plugin::dra::DraService;
use crate::plugin::serve::serve;
use crate::plugin::sockets::SocketError;
use crate::publishing::{Publication, publish};
use crate::settings::Settings;
use crate::store::{ClusterStore, DirectoryStore, Store};
use crate::xids;

/// Time limit of calls in flight at the end. It is below the 30 s after which Kubernetes kills; the next start undoes
/// what is not done by then.
const STOP_GRACE: Duration = Duration::from_secs(20);

/// File with the identity of the running kernel's boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Reason why the driver cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// A socket cannot be bound.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The GPUs or the name of this node cannot be published.
    #[error(transparent)]
    Publish(#[from] sluice_inventory::PublishError),
    /// No API server is configured.
    #[error(
        "no API server is known: {0}. In a pod, check its service account; outside, set KUBECONFIG; on one \
         machine without Kubernetes, give --store DIR"
    )]
    ApiServer(String),
    /// A file, thread or signal handler of the process fails.
    #[error("{what}: {source}")]
    Io {
        /// What failed.
        what: String,
        /// Error of the system.
        source: std::io::Error,
    },
    /// The metrics recorder cannot be installed.
    #[error("metrics: {0}")]
    Metrics(String),
}

fn io_error(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> RunError {
    let what = what.into();
    move |source| RunError::Io { what, source }
}

/// Runs the driver until SIGTERM or SIGINT.
///
/// The order of the start is: checkpoint, NVML, undoing what the last run left unfinished, sockets, ResourceSlices.
/// So a device is never offered before it can be prepared. Without NVML the driver serves what does not need it, is
/// not ready, and keeps trying to open NVML.
///
/// # Errors
/// Returns what prevents the start.
pub async fn run(settings: Settings) -> Result<(), RunError> {
    let stop = shutdown::on_signals().map_err(io_error("signal handlers"))?;
    files::raise_limit();
    let metrics = metrics::install(BUCKETS).map_err(RunError::Metrics)?;
    let listener = TcpListener::bind(settings.admin_listen)
        .await
        .map_err(io_error(format!("adminListen {}", settings.admin_listen)))?;
    tracing::info!(address = %listener.local_addr().map_err(io_error("adminListen"))?, "The admin port is open.");

    let readiness = Readiness::default();
    let checkpoints = CheckpointStore::open(StateDir::lock(&settings.state_dir)?)?;
    let now_ms: Clock = Arc::new(unix_ms);
    let gpus: Arc<dyn Gpus> = Arc::new(NodeGpus::new(&settings.driver_root));
    let (gone, gone_view) = watch::channel(Arc::default());
    let routes = Arc::new(Routes {
        checkpoints: checkpoints.clone(),
        gone: gone_view,
        now_ms: Arc::clone(&now_ms),
        served: OnceLock::new(),
    });
    let admin =
        Admin { metrics, readiness: readiness.clone(), routes: Arc::clone(&routes) as Arc<dyn AdminRoutes> };
    // The admin port is served while NVML is still being initialised, and until the last call has ended.
    let admin_stop = CancellationToken::new();
    let admin = tokio::spawn(admin::serve(listener, admin, admin_stop.clone()));

    let begin = start(&settings, gpus, checkpoints, now_ms, gone, readiness, &stop);
    let work = tokio::select! {
        work = begin => Some(work?),
        // NVML may hang before anything is served. The next start completes an interrupted recovery.
        () = stop.cancelled() => None,
    };
    if let Some(work) = work {
        // From now on the liveness probe checks the sockets.
        let _ = routes.served.set(settings.kubelet_dir.clone());
        stop.cancelled().await;
        if tokio::time::timeout(STOP_GRACE, work.ended()).await.is_err() {
            tracing::warn!(
                "Stopping while calls still wait for NVML; the next start undoes what they have not finished."
            );
        }
    }
    admin_stop.cancel();
    let _ = admin.await;
    tracing::info!("Stopped; ResourceSlices and prepared claims stay.");
    Ok(())
}

/// Tasks that run until the stop.
struct Work {
    served: crate::plugin::serve::Served,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Work {
    async fn ended(self) {
        self.served.ended().await;
        for task in self.tasks {
            let _ = task.await;
        }
    }
}

async fn start(
    settings: &Settings,
    gpus: Arc<dyn Gpus>,
    checkpoints: CheckpointStore,
    now_ms: Clock,
    gone: watch::Sender<Arc<BTreeSet<ClaimDevice>>>,
    readiness: Readiness,
    stop: &CancellationToken,
) -> Result<Work, RunError> {
    let publication = Publication {
        node: settings.node_name.clone(),
        driver: DRIVER.to_owned(),
        gpus: Vec::new(),
        marks: Default::default(),
        monitors: true,
        layout: settings.slice_form.fixed(),
    };
    // Reports a name that cannot be published now, instead of warning in every round.
    publication.slices(publication.layout.unwrap_or(SliceLayout::Split), 1)?;
    let boot_id = std::fs::read_to_string(BOOT_ID).map_err(io_error(BOOT_ID))?.trim().to_owned();
    let on_host = settings.driver_root_on_host.as_ref().unwrap_or(&settings.driver_root);
    let libraries = settings.mount_libraries.then(|| DriverFiles::new(&settings.driver_root, on_host));
    let cdi = CdiDir::new(&settings.cdi_dir, &settings.driver_root, settings.device_majors, libraries);
    let device_state = Arc::new(DeviceState::new(Arc::clone(&gpus), checkpoints, cdi, boot_id, now_ms));
    let store = open_store(settings).await?;
    let nudge = Arc::new(Notify::new());
    let memory = settings.state_dir.join("gpus.json");
    let (mut monitor, views) =
        Monitor::new(Arc::clone(&device_state), Arc::clone(&store), publication, memory, Arc::clone(&nudge));
    monitor.first_look().await;
    let recovering = Arc::clone(&device_state);
    tokio::task::spawn_blocking(move || recovering.recover())
        .await
        .map_err(|error| io_error("recovery")(error.into()))?;

    let claims = Claims {
        store: Arc::clone(&store),
        node: views.node.clone(),
        session: views.session.clone(),
        device_state: Arc::clone(&device_state),
        in_progress: InProgress::default(),
        metrics: ClaimMetrics::new(),
        stale: Arc::new(Notify::new()),
        nudge: Arc::clone(&nudge),
    };
    let dra = DraService::new(claims.clone(), &settings.node_name);
    let served = serve(&settings.kubelet_dir, DRIVER, dra, stop)?;
    // Without Kubernetes, the local platform prepares claims without registering the driver.
    let registered = if settings.store.is_none() { served.registered() } else { watch::channel(Ok(())).1 };

    let (published, is_published) = watch::channel(Err("ResourceSlices are not published yet".to_owned()));
    let interval = Duration::from_secs(settings.reconcile_interval_seconds);
    let looks = Duration::from_secs(settings.health_interval_seconds);
    let Views { publication, node, session, gone: gone_devices } = views;
    let feed = xids::watch(gpus.watch_xids()).map_err(io_error("thread of NVML's events"))?;
    let checkpoint = move || device_state.checkpoints().checkpoint();
    let known_gpus = move || node.borrow().as_ref().map(|node| node.gpus.clone()).unwrap_or_default();
    let tasks = vec![
        tokio::spawn(neighbours::watch(Arc::clone(&store), settings.node_name.clone(), stop.clone())),
        tokio::spawn(publish(store, publication, published, stop.clone())),
        tokio::spawn(claims.reconcile(interval, stop.clone())),
        tokio::spawn(monitor.run(looks, stop.clone())),
        tokio::spawn(forward(gone_devices, gone, stop.clone())),
        tokio::spawn(report_readiness([session, is_published, registered], readiness)),
        tokio::spawn(xids::count(feed, known_gpus, checkpoint, nudge, stop.clone())),
    ];
    Ok(Work { served, tasks })
}

/// Opens the directory where one is set, else the API server.
async fn open_store(settings: &Settings) -> Result<Arc<dyn Store>, RunError> {
    if let Some(folder) = &settings.store {
        return Ok(Arc::new(DirectoryStore::new(folder)));
    }
    let unknown = |error: anyhow::Error| RunError::ApiServer(format!("{error:#}"));
    let config = kube::Config::infer().await.map_err(|error| unknown(error.into()))?;
    let url = config.cluster_url.clone();
    let client = kube::Client::try_from(config).map_err(|error| unknown(error.into()))?;
    tracing::info!(%url, "Publishing ResourceSlices to the API server and reading claims from it.");
    Ok(Arc::new(ClusterStore::start(client, DRIVER, &settings.node_name)))
}

/// Reports the process as ready while the GPUs can be queried, everything is published and the kubelet has registered
/// the driver. A claim that is allocated before would wait for the kubelet's next try, which may take more than a
/// minute.
async fn report_readiness(mut conditions: [watch::Receiver<Result<(), String>>; 3], readiness: Readiness) {
    loop {
        let states = conditions.each_mut().map(|condition| condition.borrow_and_update().clone());
        match states.into_iter().collect::<Result<(), String>>() {
            Ok(()) => readiness.set_ready(),
            Err(reason) => readiness.set_not_ready(reason),
        }
        let [session, published, registered] = &mut conditions;
        // Only the sender of `published` lives as long as the process; the others may be gone, and then do not change
        // any more.
        tokio::select! {
            changed = published.changed() => if changed.is_err() { return },
            Ok(()) = session.changed() => {}
            Ok(()) = registered.changed() => {}
        }
    }
}

/// Forwards each change of a value until `stop`.
async fn forward<T: Clone>(mut from: watch::Receiver<T>, to: watch::Sender<T>, stop: CancellationToken) {
    let handing_on = async {
        while from.changed().await.is_ok() {
            to.send_replace(from.borrow_and_update().clone());
        }
    };
    tokio::select! {
        () = handing_on => {}
        () = stop.cancelled() => {}
    }
}

struct Routes {
    checkpoints: CheckpointStore,
    gone: watch::Receiver<Arc<BTreeSet<ClaimDevice>>>,
    now_ms: Clock,
    /// Directory of the kubelet's sockets, set once they are served.
    served: OnceLock<PathBuf>,
}

#[async_trait]
impl AdminRoutes for Routes {
    async fn alive(&self) -> Result<(), String> {
        match self.served.get() {
            Some(kubelet_dir) => check(kubelet_dir, DRIVER).await.map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }

    async fn before_scrape(&self) {
        let gone = Arc::clone(&self.gone.borrow());
        export_usage(&self.checkpoints.checkpoint(), &gone, (self.now_ms)());
    }
}

fn unix_ms() -> u64 {
    // A clock before 1970 counts as 1970.
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ready_means_published_and_registered() {
        let (publisher, published) = watch::channel(Ok(()));
        let (kubelet, registered) = watch::channel(Err("not registered".to_owned()));
        let readiness = Readiness::default();
        let (nvml, session) = watch::channel(Ok(()));
        let telling = tokio::spawn(report_readiness([session, published, registered], readiness.clone()));
        type Said = Result<(), &'static str>;
        let steps: [([Said; 3], Said); 5] = [
            ([Ok(()), Ok(()), Err("not registered")], Err("not registered")),
            ([Ok(()), Err("wiped"), Ok(())], Err("wiped")),
            ([Ok(()), Ok(()), Ok(())], Ok(())),
            ([Ok(()), Ok(()), Err("refused")], Err("refused")),
            ([Err("no library"), Ok(()), Ok(())], Err("no library")),
        ];
        for ([session, told, said], expected) in steps {
            let _ = nvml.send_replace(session.map_err(str::to_owned));
            let _ = kubelet.send_replace(said.map_err(str::to_owned));
            let _ = publisher.send_replace(told.map_err(str::to_owned));
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            assert_eq!(readiness.get(), expected.map_err(str::to_owned));
        }
        drop(publisher);
        telling.await.unwrap();
    }
}
