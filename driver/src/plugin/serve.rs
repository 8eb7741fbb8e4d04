//! Servers of both sockets. DRA is first, so that it responds when the kubelet discovers the plugin.

use std::io;
use std::path::Path;

use futures::{Stream, StreamExt};
use sluice_kubelet_api::dra::v1::dra_plugin_server::DraPluginServer;
use sluice_kubelet_api::registration::v1::registration_server::RegistrationServer;
use sluice_kubelet_api::{dra_socket, registration_socket};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use super::authority::AnyAuthority;
use super::dra::DraService;
use super::registration::{Registered, RegistrationService};
use super::sockets::{SocketError, connections};

/// Maximum concurrent calls of one connection. The kubelet makes one per pod.
const MAX_CALLS: usize = 64;

/// Both servers while they run.
#[derive(Debug)]
pub(crate) struct Served {
    dra: JoinHandle<()>,
    registration: JoinHandle<()>,
    registered: watch::Receiver<Registered>,
}

impl Served {
    /// Returns the state of the registration.
    pub(crate) fn registered(&self) -> watch::Receiver<Registered> {
        self.registered.clone()
    }

    /// Waits until both have ended, which is after `stop` when the calls in flight are answered.
    pub(crate) async fn ended(self) {
        let _ = tokio::join!(self.registration, self.dra);
    }
}

/// Binds both sockets and serves them until `stop`. Both are bound when this returns.
///
/// # Errors
/// Fails if a socket cannot be bound.
pub(crate) fn serve(
    kubelet_dir: &Path,
    driver: &str,
    dra: DraService,
    stop: &CancellationToken,
) -> Result<Served, SocketError> {
    let endpoint = dra_socket(kubelet_dir, driver);
    let dra_connections = connections(&endpoint, None, stop.clone())?;
    let registration_path = registration_socket(kubelet_dir, driver);
    let registration_connections = connections(&registration_path, Some(endpoint.clone()), stop.clone())?;
    let (sender, registered) = watch::channel(Err(format!(
        "the kubelet has not registered the driver yet; it must find {}",
        registration_path.display()
    )));
    let stopped = stop.clone();
    let dra = tokio::spawn(async move {
        let served = Server::builder()
            .concurrency_limit_per_connection(MAX_CALLS)
            .add_service(DraPluginServer::new(dra))
            .serve_with_incoming_shutdown(any_authority(dra_connections), stopped.cancelled_owned())
            .await;
        if let Err(error) = served {
            tracing::error!(%error, "The DRA server failed.");
        }
    });
    let registration = RegistrationService { driver: driver.to_owned(), endpoint, registered: sender };
    let stopped = stop.clone();
    let registration = tokio::spawn(async move {
        let served = Server::builder()
            .add_service(RegistrationServer::new(registration))
            .serve_with_incoming_shutdown(any_authority(registration_connections), stopped.cancelled_owned())
            .await;
        if let Err(error) = served {
            tracing::error!(%error, "The registration server failed.");
        }
    });
    Ok(Served { dra, registration, registered })
}

/// Wraps connections of kubelets, which send the path of the socket as authority.
fn any_authority(
    connections: impl Stream<Item = io::Result<UnixStream>>,
) -> impl Stream<Item = io::Result<AnyAuthority<UnixStream>>> {
    connections.map(|connection| connection.map(AnyAuthority::new))
}
