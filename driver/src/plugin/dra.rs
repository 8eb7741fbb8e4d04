//! DRA v1 service: prepare and unprepare. Its response has an entry for every claim of the request, with an error if
//! the claim failed.

use std::collections::HashMap;

use futures::future::join_all;
use sluice_config::names::devices::pool;
use sluice_kubelet_api::dra::v1::dra_plugin_server::DraPlugin;
use sluice_kubelet_api::dra::v1::{
    Claim, Device, NodePrepareResourceResponse, NodePrepareResourcesRequest, NodePrepareResourcesResponse,
    NodeUnprepareResourceResponse, NodeUnprepareResourcesRequest, NodeUnprepareResourcesResponse,
};
use tonic::{Request, Response, Status};

use crate::cdi::device_id;
use crate::checkpoint::DeviceRecord;
use crate::claims::{ClaimRef, Claims};

/// Maximum claims of one request, which limits the threads of the request. A pod has far fewer.
const MAX_CLAIMS: usize = 128;

pub(crate) struct DraService {
    claims: Claims,
    pool: String,
}

impl DraService {
    /// Serves claims on the node `node`.
    pub(crate) fn new(claims: Claims, node: &str) -> Self {
        Self { claims, pool: pool(node) }
    }

    fn answer(&self, uid: &str, device: DeviceRecord) -> Device {
        Device {
            cdi_device_ids: vec![device_id(uid, &device.device)],
            request_names: device.requests,
            pool_name: self.pool.clone(),
            device_name: device.device,
            share_id: None,
        }
    }
}

fn reference(claim: Claim) -> ClaimRef {
    ClaimRef { namespace: claim.namespace, name: claim.name, uid: claim.uid }
}

fn check_count(claims: &[Claim]) -> Result<(), Status> {
    if claims.len() > MAX_CLAIMS {
        let message = format!("{} claims in one request; at most {MAX_CLAIMS} are taken", claims.len());
        return Err(Status::invalid_argument(message));
    }
    Ok(())
}

#[tonic::async_trait]
impl DraPlugin for DraService {
    async fn node_prepare_resources(
        &self,
        request: Request<NodePrepareResourcesRequest>,
    ) -> Result<Response<NodePrepareResourcesResponse>, Status> {
        let claims = request.into_inner().claims;
        check_count(&claims)?;
        let prepared = claims.into_iter().map(|claim| async {
            let uid = claim.uid.clone();
            let response = match self.claims.prepare(reference(claim)).await {
                Ok(devices) => NodePrepareResourceResponse {
                    devices: devices.into_iter().map(|device| self.answer(&uid, device)).collect(),
                    error: String::new(),
                },
                Err(error) => NodePrepareResourceResponse { devices: Vec::new(), error: error.to_string() },
            };
            (uid, response)
        });
        let claims: HashMap<_, _> = join_all(prepared).await.into_iter().collect();
        Ok(Response::new(NodePrepareResourcesResponse { claims }))
    }

    async fn node_unprepare_resources(
        &self,
        request: Request<NodeUnprepareResourcesRequest>,
    ) -> Result<Response<NodeUnprepareResourcesResponse>, Status> {
        let claims = request.into_inner().claims;
        check_count(&claims)?;
        let unprepared = claims.into_iter().map(|claim| async {
            let uid = claim.uid.clone();
            let result = self.claims.unprepare(reference(claim)).await;
            let error = result.err().map(|error| error.to_string()).unwrap_or_default();
            (uid, NodeUnprepareResourceResponse { error })
        });
        let claims: HashMap<_, _> = join_all(unprepared).await.into_iter().collect();
        Ok(Response::new(NodeUnprepareResourcesResponse { claims }))
    }
}
