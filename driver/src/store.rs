//! Store of Kubernetes objects, as a trait: the API server in a cluster, or a directory of the same objects on one
//! machine. Its users work the same on both.

pub(crate) mod cluster;
pub(crate) mod directory;
#[cfg(test)]
pub(crate) mod memory;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim, ResourceSlice};
use sluice_inventory::SliceLayout;

pub(crate) use cluster::ClusterStore;
pub(crate) use directory::DirectoryStore;

/// Error of reading or writing the store. It says nothing about the content: in particular, not that an object is
/// absent.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(crate) struct StoreError(pub String);

/// Claim as the kubelet names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClaimRef {
    /// Namespace of the claim.
    pub namespace: String,
    /// Name of the claim.
    pub name: String,
    /// UID of the claim.
    pub uid: String,
}

/// Kubernetes Event about a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClaimEvent {
    /// Reason of the event: one word in CamelCase.
    pub reason: &'static str,
    /// Message of the event: a sentence.
    pub message: String,
}

/// Objects of resource.k8s.io/v1 that the driver of a node needs.
#[async_trait]
pub(crate) trait Store: Send + Sync + 'static {
    /// Returns the layout of slices that the store accepts now. It changes when a cluster is upgraded.
    async fn slice_layout(&self) -> Result<SliceLayout, StoreError>;

    /// Returns the ResourceSlices of this driver on this node.
    async fn slices(&self, driver: &str, node: &str) -> Result<Vec<ResourceSlice>, StoreError>;

    /// Returns whether the store would keep the counters of this slice. An API server silently drops the fields of a
    /// feature that is off, and placements without counters could be allocated one over the other.
    async fn keeps_counters(&self, slice: &ResourceSlice) -> Result<bool, StoreError>;

    /// Returns whether the store would keep the taints of this slice, which an API server may drop as well.
    async fn keeps_taints(&self, slice: &ResourceSlice) -> Result<bool, StoreError>;

    /// Creates or replaces a slice.
    async fn put_slice(&self, slice: &ResourceSlice) -> Result<(), StoreError>;

    /// Deletes a slice. A missing slice is a success.
    async fn delete_slice(&self, name: &str) -> Result<(), StoreError>;

    /// Waits until slices may have changed, but no longer than is acceptable for restoring deleted ones.
    async fn slices_changed(&self);

    /// Returns a claim; `None` if it certainly does not exist.
    async fn claim(&self, namespace: &str, name: &str) -> Result<Option<ResourceClaim>, StoreError>;

    /// Returns the Node object; `None` if it does not exist.
    async fn node(&self, name: &str) -> Result<Option<Node>, StoreError>;

    /// Lists all claims. That is expensive in a large cluster, so it is called only while a GPU is lost.
    async fn claims(&self) -> Result<Vec<ResourceClaim>, StoreError>;

    /// Publishes an event on a claim and on the pods that use it. A failure is only logged.
    async fn publish_event(&self, claim: &ClaimRef, event: &ClaimEvent);

    /// Writes DeviceClasses to a store that has no other source of them. The manifests install those of a cluster.
    async fn offer_classes(&self, classes: &[DeviceClass]) -> Result<(), StoreError>;
}

/// Returns whether a slice has counters.
pub(crate) fn has_counters(slice: &ResourceSlice) -> bool {
    let consumes = |device: &k8s_openapi::api::resource::v1::Device| device.consumes_counters.is_some();
    slice.spec.shared_counters.is_some() || slice.spec.devices.iter().flatten().any(consumes)
}

/// Returns whether a slice has taints.
pub(crate) fn has_taints(slice: &ResourceSlice) -> bool {
    slice.spec.devices.iter().flatten().any(|device| device.taints.is_some())
}
