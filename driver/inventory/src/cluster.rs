//! The scheduler's view of the world, as objects.
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim, ResourceSlice};
use std::collections::BTreeSet;

/// Everything that allocation depends on. Plain API objects, in any order.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    /// All ResourceSlices, of every driver and generation.
    pub slices: Vec<ResourceSlice>,
    /// All ResourceClaims, of every namespace; those with an allocation hold devices.
    pub claims: Vec<ResourceClaim>,
    /// All DeviceClasses.
    pub device_classes: Vec<DeviceClass>,
    /// Nodes on which nothing is placed (cordoned or not ready): their slices are still there.
    pub unschedulable_nodes: BTreeSet<String>,
}
