//! Where ResourceSlices go and claims come from, as a trait: the API server in a cluster, a directory of
//! the same objects on one machine. What stands between is the same.

pub mod directory;
#[cfg(test)]
pub(crate) mod memory;

use async_trait::async_trait;
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim, ResourceSlice};

pub use directory::DirectoryStore;

/// The store could not be read or written. It says nothing about what is in it: least of all that an
/// object is absent.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub String);

/// Objects of resource.k8s.io/v1, as far as a node's driver needs them.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// ResourceSlices of this driver on this node.
    async fn slices(&self, driver: &str, node: &str) -> Result<Vec<ResourceSlice>, StoreError>;

    /// Creates or replaces a slice.
    async fn put_slice(&self, slice: &ResourceSlice) -> Result<(), StoreError>;

    /// Deletes a slice; that there is none is a success.
    async fn delete_slice(&self, name: &str) -> Result<(), StoreError>;

    /// Returns when slices may have changed, at the latest after a time that is short enough to put back
    /// what somebody wiped.
    async fn slices_changed(&self);

    /// A claim; `None` when there is certainly none of that name.
    async fn claim(&self, namespace: &str, name: &str) -> Result<Option<ResourceClaim>, StoreError>;

    /// Writes DeviceClasses where nobody else does. A cluster's are installed with its manifests.
    async fn offer_classes(&self, classes: &[DeviceClass]) -> Result<(), StoreError>;
}
