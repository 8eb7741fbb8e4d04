//! Serves both sockets: DRA first, so that it answers when the kubelet learns of it.

use std::io;
use std::path::Path;

use futures::{Stream, StreamExt};
use sluice_kubelet_api::dra::v1::dra_plugin_server::DraPluginServer;
use sluice_kubelet_api::registration::v1::registration_server::RegistrationServer;
use sluice_kubelet_api::{dra_socket, registration_socket};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use super::authority::AnyAuthority;
use super::dra::DraService;
use super::registration::{Registered, RegistrationService};
use super::sockets::{SocketError, bind};

/// Calls at once on one connection; the kubelet makes one a pod.
const MAX_CALLS: usize = 64;

/// Both servers, running.
#[derive(Debug)]
pub struct Served {
    dra: JoinHandle<()>,
    registration: JoinHandle<()>,
    registered: watch::Receiver<Registered>,
}

impl Served {
    /// What the kubelet has said of the driver.
    pub fn registered(&self) -> watch::Receiver<Registered> {
        self.registered.clone()
    }

    /// Waits until both have ended: after the stop, when calls in flight are answered.
    pub async fn ended(self) {
        let _ = tokio::join!(self.registration, self.dra);
    }
}

/// Binds both sockets and serves them until `stop`. Both are bound when this returns.
///
/// # Errors
/// When a socket cannot be bound.
pub fn serve(
    kubelet_dir: &Path,
    driver: &str,
    dra: DraService,
    stop: &CancellationToken,
) -> Result<Served, SocketError> {
    let endpoint = dra_socket(kubelet_dir, driver);
    let (dra_listener, dra_file) = bind(&endpoint)?;
    let registration_path = registration_socket(kubelet_dir, driver);
    let (registration_listener, registration_file) = bind(&registration_path)?;
    let (sender, registered) = watch::channel(Err(format!(
        "the kubelet has not registered the driver yet; it must find {}",
        registration_path.display()
    )));
    let stopped = stop.clone();
    let dra = tokio::spawn(async move {
        let served = Server::builder()
            .concurrency_limit_per_connection(MAX_CALLS)
            .add_service(DraPluginServer::new(dra))
            .serve_with_incoming_shutdown(connections(dra_listener), stopped.cancelled_owned())
            .await;
        if let Err(error) = served {
            tracing::error!(%error, "The DRA server has failed.");
        }
        drop(dra_file);
    });
    let registration = RegistrationService { driver: driver.to_owned(), endpoint, registered: sender };
    let stopped = stop.clone();
    let registration = tokio::spawn(async move {
        let served = Server::builder()
            .add_service(RegistrationServer::new(registration))
            .serve_with_incoming_shutdown(connections(registration_listener), stopped.cancelled_owned())
            .await;
        if let Err(error) = served {
            tracing::error!(%error, "The registration server has failed.");
        }
        drop(registration_file);
    });
    Ok(Served { dra, registration, registered })
}

/// Connections of kubelets, which name a socket's path as authority.
fn connections(listener: UnixListener) -> impl Stream<Item = io::Result<AnyAuthority<UnixStream>>> {
    UnixListenerStream::new(listener).map(|connection| connection.map(AnyAuthority::new))
}
