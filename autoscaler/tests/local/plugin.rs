//! A DRA plugin that prepares nothing: it checks the claim, writes the CDI file, and notes its calls in the journal.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::resource::v1::ResourceClaim;
use sluice_config::names;
use sluice_config::objects::ObjectDir;
use sluice_kubelet_api::dra::v1::dra_plugin_server::{DraPlugin, DraPluginServer};
use sluice_kubelet_api::dra::v1::{
    Claim, Device, NodePrepareResourceResponse, NodePrepareResourcesRequest, NodePrepareResourcesResponse,
    NodeUnprepareResourceResponse, NodeUnprepareResourcesRequest, NodeUnprepareResourcesResponse,
};
use sluice_kubelet_api::registration::v1::registration_server::{Registration, RegistrationServer};
use sluice_kubelet_api::registration::v1::{
    InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse,
};
use sluice_kubelet_api::{DRA_PLUGIN_TYPE, DRA_V1_SERVICE, dra_socket, registration_socket};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::journal::Journal;

#[derive(Clone)]
struct Plugin {
    store: ObjectDir,
    cdi_dir: PathBuf,
    endpoint: PathBuf,
    journal: Journal,
}

/// Serves until the handle is aborted.
pub(crate) fn start(
    kubelet_dir: &Path,
    cdi_dir: &Path,
    store: &ObjectDir,
    journal: &Journal,
) -> JoinHandle<()> {
    let endpoint = dra_socket(kubelet_dir, names::DRIVER);
    let plugin = Plugin {
        store: store.clone(),
        cdi_dir: cdi_dir.to_owned(),
        endpoint: endpoint.clone(),
        journal: journal.clone(),
    };
    let bind = |path: &Path| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = std::fs::remove_file(path);
        UnixListenerStream::new(UnixListener::bind(path).unwrap())
    };
    let dra = Server::builder()
        .add_service(DraPluginServer::new(plugin.clone()))
        .serve_with_incoming(bind(&endpoint));
    let registration = Server::builder()
        .add_service(RegistrationServer::new(plugin))
        .serve_with_incoming(bind(&registration_socket(kubelet_dir, names::DRIVER)));
    tokio::spawn(async move {
        let _ = futures::future::join(dra, registration).await;
    })
}

#[tonic::async_trait]
impl Registration for Plugin {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: DRA_PLUGIN_TYPE.to_owned(),
            name: names::DRIVER.to_owned(),
            endpoint: self.endpoint.to_string_lossy().into_owned(),
            supported_versions: vec![DRA_V1_SERVICE.to_owned(), "v1beta1.DRAPlugin".to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        self.journal.write(&format!("registered {}", request.into_inner().plugin_registered));
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

#[tonic::async_trait]
impl DraPlugin for Plugin {
    async fn node_prepare_resources(
        &self,
        request: Request<NodePrepareResourcesRequest>,
    ) -> Result<Response<NodePrepareResourcesResponse>, Status> {
        let claims = request.into_inner().claims.into_iter();
        let claims: HashMap<_, _> = claims
            .map(|claim| {
                let answer = self
                    .prepare(&claim)
                    .unwrap_or_else(|error| NodePrepareResourceResponse { devices: Vec::new(), error });
                (claim.uid, answer)
            })
            .collect();
        Ok(Response::new(NodePrepareResourcesResponse { claims }))
    }

    async fn node_unprepare_resources(
        &self,
        request: Request<NodeUnprepareResourcesRequest>,
    ) -> Result<Response<NodeUnprepareResourcesResponse>, Status> {
        let claims = request.into_inner().claims.into_iter();
        let claims: HashMap<_, _> = claims
            .map(|claim| {
                let exists = self.claim(&claim).is_some();
                let _ = std::fs::remove_file(self.cdi_dir.join(names::cdi_file_name(&claim.uid)));
                self.journal.write(&format!("unprepare {} claim-exists={exists}", claim.name));
                (claim.uid, NodeUnprepareResourceResponse::default())
            })
            .collect();
        Ok(Response::new(NodeUnprepareResourcesResponse { claims }))
    }
}

impl Plugin {
    fn claim(&self, claim: &Claim) -> Option<ResourceClaim> {
        let found = self.store.get::<ResourceClaim>(Some(&claim.namespace), &claim.name).unwrap();
        found.filter(|found| found.metadata.uid.as_deref() == Some(&claim.uid))
    }

    fn prepare(&self, claim: &Claim) -> Result<NodePrepareResourceResponse, String> {
        let object = self.claim(claim).ok_or("no such claim")?;
        let allocation = object.status.and_then(|status| status.allocation).ok_or("not allocated")?;
        let results = allocation.devices.and_then(|devices| devices.results).ok_or("no devices")?;
        let result = results.first().ok_or("no device")?;
        let (uid, device) = (&claim.uid, &result.device);
        let spec = serde_json::json!({
            "cdiVersion": "0.5.0",
            "kind": names::CDI_KIND,
            "devices": [{
                "name": format!("{uid}-{device}"),
                "containerEdits": {
                    "env": [
                        format!("{}=MIG-{device}", names::env::uuid(device)),
                        "SLUICE_PROFILE=2g.10gb".to_owned(),
                        format!("SLUICE_DEVICE={device}"),
                        format!("SLUICE_CLAIM_UID={uid}"),
                    ],
                    "deviceNodes": [{"path": "/dev/nvidia0", "type": "c", "major": 195, "minor": 0}],
                },
            }],
        });
        std::fs::create_dir_all(&self.cdi_dir).unwrap();
        std::fs::write(self.cdi_dir.join(names::cdi_file_name(uid)), spec.to_string()).unwrap();
        self.journal.write(&format!("prepare {}", claim.name));
        Ok(NodePrepareResourceResponse {
            devices: vec![Device {
                request_names: vec![result.request.clone()],
                pool_name: result.pool.clone(),
                device_name: device.clone(),
                cdi_device_ids: vec![format!("{}={uid}-{device}", names::CDI_KIND)],
                share_id: None,
            }],
            error: String::new(),
        })
    }
}
