//! Reads that a response needs of the API server: the classes of a pod's claims, and the Services of its namespace.

use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Pod, PodResourceClaim, Service};
use k8s_openapi::api::resource::v1::{DeviceClaim, ResourceClaim, ResourceClaimTemplate};
use kube::api::ListParams;
use kube::{Api, Client};
use sluice_config::names::devices::CLASS_FULL_GPU;

/// Time limit of one read: the API server waits 5 s for the whole response.
const PATIENCE: Duration = Duration::from_secs(2);

/// Reads the objects around a pod.
#[async_trait]
pub trait Lookup: Send + Sync + 'static {
    /// Returns the DeviceClasses of all claims of the pod, and a class of ours for claims that do not exist yet.
    ///
    /// # Errors
    /// Names the claim that cannot be read.
    async fn claimed_classes(&self, namespace: &str, pod: &Pod) -> Result<Vec<String>, String>;

    /// Returns the Services of the namespace; none if they cannot be read in time, because they only serve a warning.
    async fn services(&self, namespace: &str) -> Vec<Service>;
}

/// Reads from the API server.
#[derive(Clone)]
pub struct ApiLookup {
    /// The client.
    pub client: Client,
}

#[async_trait]
impl Lookup for ApiLookup {
    async fn claimed_classes(&self, namespace: &str, pod: &Pod) -> Result<Vec<String>, String> {
        let mut classes = Vec::new();
        for claim in pod.spec.iter().flat_map(|spec| spec.resource_claims.iter().flatten()) {
            let read = tokio::time::timeout(PATIENCE, self.classes(namespace, claim));
            let read = read.await.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")));
            classes.extend(read.map_err(|problem| format!("claim {:?}: {problem}", claim.name))?);
        }
        Ok(classes)
    }

    async fn services(&self, namespace: &str) -> Vec<Service> {
        let services: Api<Service> = Api::namespaced(self.client.clone(), namespace);
        // Version 0: from the API server's memory.
        let params = ListParams::default().match_any().limit(500);
        match tokio::time::timeout(PATIENCE, services.list(&params)).await {
            Ok(Ok(list)) => list.items,
            Ok(Err(error)) => {
                tracing::debug!(%error, namespace, "Failed to read Services.");
                Vec::new()
            }
            Err(_) => Vec::new(),
        }
    }
}

impl ApiLookup {
    async fn classes(&self, namespace: &str, claim: &PodResourceClaim) -> Result<Vec<String>, String> {
        if let Some(name) = &claim.resource_claim_template_name {
            let templates: Api<ResourceClaimTemplate> = Api::namespaced(self.client.clone(), namespace);
            let found = templates.get_opt(name).await.map_err(|error| error.to_string())?;
            return Ok(found.map_or_else(not_yet, |template| {
                template.spec.spec.devices.iter().flat_map(classes_of).collect()
            }));
        }
        let Some(name) = &claim.resource_claim_name else { return Ok(Vec::new()) };
        let claims: Api<ResourceClaim> = Api::namespaced(self.client.clone(), namespace);
        let found = claims.get_opt(name).await.map_err(|error| error.to_string())?;
        Ok(found.map_or_else(not_yet, |claim| claim.spec.devices.iter().flat_map(classes_of).collect()))
    }
}

/// Returns the classes of a claim that does not exist yet. It may claim a device of ours, and a gate can be lifted later
/// but never added, so it counts as if it did: manifests may be applied in any order.
fn not_yet() -> Vec<String> {
    vec![CLASS_FULL_GPU.to_owned()]
}

/// Returns all classes that a claim may be allocated from.
pub fn classes_of(devices: &DeviceClaim) -> Vec<String> {
    let mut classes = Vec::new();
    for request in devices.requests.iter().flatten() {
        classes.extend(request.exactly.iter().map(|exactly| exactly.device_class_name.clone()));
        let alternatives = request.first_available.iter().flatten();
        classes.extend(alternatives.map(|alternative| alternative.device_class_name.clone()));
    }
    classes
}
