//! State of a cluster that allocation depends on.
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim, ResourceSlice};
use std::collections::BTreeSet;

/// API objects that allocation depends on, in any order.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    /// ResourceSlices of every driver and generation.
    pub slices: Vec<ResourceSlice>,
    /// ResourceClaims of every namespace. Those with an allocation hold devices.
    pub claims: Vec<ResourceClaim>,
    /// DeviceClasses.
    pub device_classes: Vec<DeviceClass>,
    /// Nodes that get no pods, because they are cordoned or not ready. Their slices still exist.
    pub unschedulable_nodes: BTreeSet<String>,
}
