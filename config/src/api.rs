//! Sluice's own kinds, the same objects with and without a cluster.
//!
//! * [`InferenceAutoscaler`]: what an SRE writes: target, objective, bounds, behaviour.
//! * [`LocalDeployment`]: what stands in for a Deployment on one machine without Kubernetes.
//! * [`crd`]: the definition that a cluster is told.
//! * [`manifest`]: reads them strictly from YAML.

pub mod behavior;
pub mod crd;
pub mod inference_autoscaler;
pub mod local_deployment;
pub mod manifest;
mod text;
mod within;

pub use behavior::{Behavior, PolicyType, ScalingPolicy, ScalingRules, SelectPolicy};
pub use inference_autoscaler::{InferenceAutoscaler, InferenceAutoscalerSpec, InferenceAutoscalerStatus};
pub use local_deployment::{LocalDeployment, LocalDeploymentSpec};
