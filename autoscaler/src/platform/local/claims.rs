//! Builds the ResourceClaim of a replica, as the scheduler and the claim controller would write it in a cluster.

use std::collections::BTreeMap;

use k8s_openapi::api::resource::v1::{
    AllocationResult, DeviceClaim, DeviceRequest, ExactDeviceRequest, ResourceClaim,
    ResourceClaimConsumerReference, ResourceClaimSpec, ResourceClaimStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sluice_config::names;

/// Kubernetes' recommended label for the manager of an object.
const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "sluice-autoscaler");
/// Label with the LocalDeployment that the claim belongs to.
const DEPLOYMENT: &str = "sluice.dev/local-deployment";

/// Creates a claim of one device of `device_class`, without an allocation.
pub(in crate::platform) fn new(
    namespace: &str,
    name: &str,
    uid: &str,
    device_class: &str,
    deployment: &str,
) -> ResourceClaim {
    let labels = [(MANAGED_BY.0, MANAGED_BY.1), (DEPLOYMENT, deployment)];
    let request = DeviceRequest {
        name: "gpu".to_owned(),
        exactly: Some(ExactDeviceRequest {
            device_class_name: device_class.to_owned(),
            allocation_mode: Some("ExactCount".to_owned()),
            count: Some(1),
            ..ExactDeviceRequest::default()
        }),
        first_available: None,
    };
    ResourceClaim {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            uid: Some(uid.to_owned()),
            labels: Some(BTreeMap::from(labels.map(|(key, value)| (key.to_owned(), value.to_owned())))),
            ..ObjectMeta::default()
        },
        spec: ResourceClaimSpec {
            devices: Some(DeviceClaim { requests: Some(vec![request]), ..DeviceClaim::default() }),
        },
        status: None,
    }
}

/// Sets the allocation and its consumer.
pub(in crate::platform) fn allocate_to(claim: &mut ResourceClaim, allocation: AllocationResult) {
    let consumer = ResourceClaimConsumerReference {
        api_group: Some(names::API_GROUP.to_owned()),
        resource: "localdeployments".to_owned(),
        name: claim.metadata.name.clone().unwrap_or_default(),
        uid: claim.metadata.uid.clone().unwrap_or_default(),
    };
    claim.status = Some(ResourceClaimStatus {
        allocation: Some(allocation),
        reserved_for: Some(vec![consumer]),
        ..ResourceClaimStatus::default()
    });
}

/// Returns the name of the DRA driver of the claim's first device; `None` without an allocation.
pub(super) fn driver(claim: &ResourceClaim) -> Option<&str> {
    let devices = claim.status.as_ref()?.allocation.as_ref()?.devices.as_ref()?;
    devices.results.as_ref()?.first().map(|result| result.driver.as_str())
}
