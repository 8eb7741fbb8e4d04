//! A cluster state and the question about it: where do the claims of one pod fit, and how many such pods?
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim, ResourceSlice};
use serde::{Deserialize, Serialize};

use crate::answer::Answer;

/// Cluster state and question, as both sides read them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct State {
    /// Nodes, in the order in which the count of further pods fills them.
    pub nodes: Vec<Node>,
    /// All ResourceSlices, in any order.
    pub slices: Vec<ResourceSlice>,
    /// All DeviceClasses.
    pub classes: Vec<DeviceClass>,
    /// Claims that are allocated.
    pub claims: Vec<ResourceClaim>,
    /// Claims of one pod, none of them allocated.
    pub want: Vec<ResourceClaim>,
    /// Maximum number of pods that are counted.
    pub limit: u32,
}

/// A state with the scheduler's answer, kept as a test.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Known {
    /// State that both sides are asked about.
    pub state: State,
    /// Answer of the scheduler.
    pub answer: Answer,
}
