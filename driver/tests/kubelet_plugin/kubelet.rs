//! A stand-in for the kubelet: the client of both sockets.

use std::path::{Path, PathBuf};

use sluice_kubelet_api::dra::v1::dra_plugin_client::DraPluginClient;
use sluice_kubelet_api::dra::v1::{
    Claim, Device, NodePrepareResourcesRequest, NodeUnprepareResourcesRequest,
};
use sluice_kubelet_api::registration::v1::registration_client::RegistrationClient;
use sluice_kubelet_api::registration::v1::{InfoRequest, PluginInfo, RegistrationStatus};
use sluice_kubelet_api::registration_socket;

pub(crate) struct Kubelet {
    registration: PathBuf,
    runtime: tokio::runtime::Runtime,
}

impl Kubelet {
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            registration: registration_socket(dir, "gpu.sluice.dev"),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
        }
    }

    /// What the kubelet does when it sees a registration socket.
    pub(crate) fn register(&self) -> PluginInfo {
        self.runtime.block_on(async {
            let mut client = RegistrationClient::connect(address(&self.registration)).await.unwrap();
            let info = client.get_info(InfoRequest {}).await.unwrap().into_inner();
            let status = RegistrationStatus { plugin_registered: true, error: String::new() };
            client.notify_registration_status(status).await.unwrap();
            info
        })
    }

    /// Runs `act` while a connection to the DRA socket is open and idle.
    pub(crate) fn while_connected<T>(&self, act: impl FnOnce() -> T) -> T {
        let endpoint = self.register().endpoint;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let client = runtime.block_on(connect(&endpoint)).unwrap();
        let result = act();
        drop(client);
        result
    }

    /// Prepares claim `default/<name>`; the error is the claim's, or the connection's when the driver dies.
    pub(crate) fn prepare(&self, name: &str) -> Result<Vec<Device>, String> {
        let endpoint = self.register().endpoint;
        self.runtime.block_on(async {
            let mut client = connect(&endpoint).await?;
            let request = NodePrepareResourcesRequest { claims: vec![claim(name)] };
            let response = client.node_prepare_resources(request).await.map_err(|e| e.to_string())?;
            let mut claims = response.into_inner().claims;
            let answer = claims.remove(&format!("{name}-uid")).ok_or("no entry for the claim")?;
            if answer.error.is_empty() { Ok(answer.devices) } else { Err(answer.error) }
        })
    }

    /// Unprepares claim `default/<name>`.
    pub(crate) fn unprepare(&self, name: &str) -> Result<(), String> {
        let endpoint = self.register().endpoint;
        self.runtime.block_on(async {
            let mut client = connect(&endpoint).await?;
            let request = NodeUnprepareResourcesRequest { claims: vec![claim(name)] };
            let response = client.node_unprepare_resources(request).await.map_err(|e| e.to_string())?;
            let mut claims = response.into_inner().claims;
            let answer = claims.remove(&format!("{name}-uid")).ok_or("no entry for the claim")?;
            if answer.error.is_empty() { Ok(()) } else { Err(answer.error) }
        })
    }
}

fn claim(name: &str) -> Claim {
    Claim { namespace: "default".to_owned(), uid: format!("{name}-uid"), name: name.to_owned() }
}

fn address(socket: &Path) -> String {
    format!("unix://{}", socket.display())
}

async fn connect(endpoint: &str) -> Result<DraPluginClient<tonic::transport::Channel>, String> {
    DraPluginClient::connect(address(Path::new(endpoint))).await.map_err(|error| error.to_string())
}
