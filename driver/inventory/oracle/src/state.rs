//! A cluster state and the question about it: where do the claims of one pod fit, and how many such pods?
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim, ResourceSlice};
use serde::{Deserialize, Serialize};

/// A state, as both sides read it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct State {
    /// Nodes, in the order in which the count of further pods fills them.
    pub(crate) nodes: Vec<Node>,
    pub(crate) slices: Vec<ResourceSlice>,
    pub(crate) classes: Vec<DeviceClass>,
    /// Claims that are allocated.
    pub(crate) claims: Vec<ResourceClaim>,
    /// Claims of one pod, none of them allocated.
    pub(crate) want: Vec<ResourceClaim>,
    /// Pods that are counted at most.
    pub(crate) limit: u32,
}
