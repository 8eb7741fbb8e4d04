//! Wires the parts of the program, from start to exit.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use sluice_process::admin::{Admin, NoRoutes, serve};
use sluice_process::{Readiness, files, metrics, shutdown};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::manifests::ManifestsError;
use crate::settings::{PlatformKind, Settings};

pub mod kubernetes;
mod local;

/// Reason why the program ends with an error.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An object file is invalid.
    #[error(transparent)]
    Manifests(#[from] ManifestsError),
    /// The state directory is in use.
    #[error(
        "another sluice-autoscaler uses {0}; stop it, or give this one a state directory and objects of its own"
    )]
    Locked(PathBuf),
    /// The file system or the network refused.
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    /// The metrics recorder cannot be installed.
    #[error("metrics: {0}")]
    Metrics(String),
    /// The cluster cannot be reached.
    #[error("the cluster: {0}")]
    Cluster(String),
    /// Replicas did not end in time.
    #[error(
        "these replicas could not be ended: {}; the next start with the same state directory ends them", .0.join(", ")
    )]
    LeftBehind(Vec<String>),
}

impl RunError {
    /// Returns whether the user's input is at fault, not the machine.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Manifests(_))
    }
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// See [`RunError`].
pub async fn run(settings: Settings) -> Result<(), RunError> {
    match settings.platform {
        PlatformKind::Local => local::run(settings).await,
        PlatformKind::Kubernetes => kubernetes::run(settings).await,
    }
}

/// Parts of the process that both platforms need.
struct Process {
    stop: CancellationToken,
    readiness: Readiness,
    admin_stop: CancellationToken,
    admin: JoinHandle<()>,
}

impl Process {
    async fn begin(settings: &Settings) -> Result<Self, RunError> {
        let metrics = metrics::install(crate::metrics::BUCKETS).map_err(RunError::Metrics)?;
        let stop = shutdown::on_signals().map_err(io_error("signal handlers"))?;
        files::raise_limit();
        let readiness = Readiness::default();
        let admin_stop = CancellationToken::new();
        let admin = Admin { metrics, readiness: readiness.clone(), routes: Arc::new(NoRoutes) };
        let admin = listen(settings.admin_listen, admin, admin_stop.clone()).await?;
        Ok(Self { stop, readiness, admin_stop, admin })
    }

    async fn end(self) {
        self.admin_stop.cancel();
        let _ = self.admin.await;
    }
}

async fn listen(
    address: SocketAddr,
    admin: Admin,
    stop: CancellationToken,
) -> Result<JoinHandle<()>, RunError> {
    let listener =
        TcpListener::bind(address).await.map_err(io_error(format!("admin port {address} (adminListen)")))?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "The admin port is open.");
    }
    Ok(tokio::spawn(serve(listener, admin, stop)))
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> RunError {
    let what = what.into();
    move |source| RunError::Io { what, source }
}
