//! Where ResourceSlices go and claims come from, as a trait: the API server in a cluster, a directory of
//! the same objects on one machine. What stands between is the same.

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

/// The store could not be read or written. It says nothing about what is in it: least of all that an
/// object is absent.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(crate) struct StoreError(pub String);

/// A claim as the kubelet names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClaimRef {
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// UID of the object.
    pub uid: String,
}

/// Something that happened to a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClaimEvent {
    /// One word in CamelCase.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

/// Objects of resource.k8s.io/v1, as far as a node's driver needs them.
#[async_trait]
pub(crate) trait Store: Send + Sync + 'static {
    /// Returns the layout of slices that the store accepts now. It changes when a cluster is upgraded.
    async fn slice_layout(&self) -> Result<SliceLayout, StoreError>;

    /// ResourceSlices of this driver on this node.
    async fn slices(&self, driver: &str, node: &str) -> Result<Vec<ResourceSlice>, StoreError>;

    /// Whether the store would keep this slice's counters. An API server silently drops the fields of a
    /// feature that is off, and placements without counters could be allocated one over the other.
    async fn keeps_counters(&self, slice: &ResourceSlice) -> Result<bool, StoreError>;

    /// Whether the store would keep this slice's taints: as for counters.
    async fn keeps_taints(&self, slice: &ResourceSlice) -> Result<bool, StoreError>;

    /// Creates or replaces a slice.
    async fn put_slice(&self, slice: &ResourceSlice) -> Result<(), StoreError>;

    /// Deletes a slice; that there is none is a success.
    async fn delete_slice(&self, name: &str) -> Result<(), StoreError>;

    /// Returns when slices may have changed, at the latest after a time that is short enough to put back
    /// what somebody wiped.
    async fn slices_changed(&self);

    /// A claim; `None` when there is certainly none of that name.
    async fn claim(&self, namespace: &str, name: &str) -> Result<Option<ResourceClaim>, StoreError>;

    /// The node's object; `None` where there is none.
    async fn node(&self, name: &str) -> Result<Option<Node>, StoreError>;

    /// All claims. Large in a cluster: asked for only while a GPU is lost.
    async fn claims(&self) -> Result<Vec<ResourceClaim>, StoreError>;

    /// Tells whoever looks at a claim, and at the pods that use it, what happened. Nobody waits for it, and
    /// what cannot be told is only in the log.
    async fn publish_event(&self, claim: &ClaimRef, event: &ClaimEvent);

    /// Writes DeviceClasses where nobody else does. A cluster's are installed with its manifests.
    async fn offer_classes(&self, classes: &[DeviceClass]) -> Result<(), StoreError>;
}

/// Whether a slice says anything about counters.
pub(crate) fn has_counters(slice: &ResourceSlice) -> bool {
    let consumes = |device: &k8s_openapi::api::resource::v1::Device| device.consumes_counters.is_some();
    slice.spec.shared_counters.is_some() || slice.spec.devices.iter().flatten().any(consumes)
}

/// Whether a slice says anything about taints.
pub(crate) fn has_taints(slice: &ResourceSlice) -> bool {
    slice.spec.devices.iter().flatten().any(|device| device.taints.is_some())
}
