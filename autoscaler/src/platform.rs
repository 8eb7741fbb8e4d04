//! Platform of the replicas. Controllers know only the trait: `local` runs processes on one machine, `kubernetes` patches
//! scale subresources.

use std::fmt;

use async_trait::async_trait;
use sluice_config::api::InferenceAutoscaler;
use sluice_config::api::inference_autoscaler::Gateway;
use sluice_scaling_policy::signals::Presence;
use sluice_scaling_policy::{Findings, Standing};

use crate::capacity::CapacityView;

#[cfg(test)]
pub(crate) mod fake;
pub mod kubernetes;
pub mod local;

/// A namespace and a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Object whose replicas are scaled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScaleTarget {
    /// Namespace and name.
    pub at: Target,
    /// Group and version, e.g. `apps/v1`.
    pub api_version: String,
    /// Kind, e.g. `Deployment`.
    pub kind: String,
}

impl fmt::Display for ScaleTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.at)
    }
}

/// Returns the target of an object.
pub(crate) fn target_of(object: &InferenceAutoscaler) -> ScaleTarget {
    let wanted = &object.spec.scale_target_ref;
    let at = Target { namespace: name_of(object).0, name: wanted.name.clone() };
    ScaleTarget { at, api_version: wanted.api_version.clone(), kind: wanted.kind.clone() }
}

/// Returns namespace (`default` where it is absent) and name of an object.
pub(crate) fn name_of(object: &InferenceAutoscaler) -> (String, String) {
    let namespace = object.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned());
    (namespace, object.metadata.name.clone().unwrap_or_default())
}

/// Batcher whose `/metrics` show the demand on a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batcher {
    /// Name of the process; counters of different names are not mixed.
    pub name: String,
    /// URL of its metrics page.
    pub metrics_url: String,
    /// Whether it takes traffic, so that it must be readable. One that is starting may not answer yet.
    pub is_required: bool,
    /// When its process started, milliseconds since 1970; `None` where that is not known.
    pub started_ms: Option<u64>,
}

impl Batcher {
    /// Returns what the history of readings needs of it.
    pub fn presence(&self) -> Presence<'_> {
        Presence { name: &self.name, is_required: self.is_required, started_ms: self.started_ms }
    }
}

/// Present replicas of a target.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Replicas {
    /// Number asked for: those that take traffic and those that are starting.
    pub asked: u32,
    /// Number of these that take traffic.
    pub ready: u32,
    /// Number of these that do not take traffic yet.
    pub starting: u32,
    /// Number of the starting ones that have no pod yet.
    pub absent: u32,
    /// Number of terminating ones, which still hold their slices; `asked` does not include them.
    pub terminating: u32,
    /// Smoothed time from asking for a replica until it takes traffic, milliseconds; `None` before the first measurement.
    pub startup_ms: Option<u64>,
    /// Batchers that measure the demand.
    pub batchers: Vec<Batcher>,
    /// Reasons that keep them from being ready, and a rollout. `without_slice` is filled in from the capacity.
    pub standing: Standing,
    /// Other facts about the target.
    pub findings: Findings,
}

/// Reason why a platform cannot answer or act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// The target does not exist.
    #[error("the scale target {0} does not exist; create it, or correct spec.scaleTargetRef")]
    UnknownTarget(String),
    /// The target cannot be scaled as it is.
    #[error("{0}")]
    Unscalable(String),
    /// It is not known what a replica claims before one has a pod.
    #[error("{0}")]
    ClaimUnknown(String),
    /// The platform cannot be reached now.
    #[error("{0}")]
    Unavailable(String),
}

/// Operations of a controller on the replicas of targets.
#[async_trait]
pub trait Platform: Send + Sync {
    /// Returns the target's present replicas. Where a `gateway` is in front of them, its processes are the batchers.
    async fn replicas(
        &self,
        target: &ScaleTarget,
        gateway: Option<&Gateway>,
    ) -> Result<Replicas, PlatformError>;

    /// Asks for `replicas` replicas. Returns the number that is asked for now, which is lower where others have taken slices
    /// in the meantime.
    async fn set_replicas(&self, target: &ScaleTarget, replicas: u32) -> Result<u32, PlatformError>;

    /// Returns what the placement of the target's next replica depends on.
    async fn capacity(&self, target: &ScaleTarget) -> Result<CapacityView, PlatformError>;
}
