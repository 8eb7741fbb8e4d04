//! Where replicas live. The controller knows this trait alone: `local` runs processes on one machine,
//! `kubernetes` patches scale subresources.

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

/// What is scaled.
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

/// A batcher whose `/metrics` tell the demand on a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batcher {
    /// Which process; counters of different names are not mixed.
    pub name: String,
    /// Its metrics page.
    pub metrics_url: String,
    /// Whether it takes traffic, so that it must be readable; one that still starts may not answer yet.
    pub is_required: bool,
    /// When its process started, milliseconds since 1970, where that is known.
    pub started_ms: Option<u64>,
}

impl Batcher {
    /// Returns what the history of readings needs of it.
    pub fn presence(&self) -> Presence<'_> {
        Presence { name: &self.name, is_required: self.is_required, started_ms: self.started_ms }
    }
}

/// A target's replicas, as they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Replicas {
    /// Asked for: those that take traffic and those on their way there.
    pub asked: u32,
    /// Of these, taking traffic.
    pub ready: u32,
    /// Of these, not there yet.
    pub starting: u32,
    /// Of those, without even a pod.
    pub absent: u32,
    /// On their way out; not part of `asked`, and still holding their slices.
    pub terminating: u32,
    /// Measured time from asking for a replica until it takes traffic, smoothed, milliseconds.
    pub startup_ms: Option<u64>,
    /// Where demand is measured.
    pub batchers: Vec<Batcher>,
    /// What keeps them from being ready, and a rollout; what waits for a slice is the capacity's question.
    pub standing: Standing,
    /// What else was found out about the target.
    pub findings: Findings,
}

/// Why a platform cannot tell or act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// The target does not exist.
    #[error("the scale target {0} does not exist; create it, or correct spec.scaleTargetRef")]
    UnknownTarget(String),
    /// The target cannot be scaled as it is.
    #[error("{0}")]
    Unscalable(String),
    /// What a replica claims is not known before one has a pod.
    #[error("{0}")]
    ClaimUnknown(String),
    /// The platform cannot be asked now.
    #[error("{0}")]
    Unavailable(String),
}

/// What a controller may ask and do.
#[async_trait]
pub trait Platform: Send + Sync {
    /// The target's replicas now. Where a `gateway` stands in front of them, its processes are the batchers.
    async fn replicas(
        &self,
        target: &ScaleTarget,
        gateway: Option<&Gateway>,
    ) -> Result<Replicas, PlatformError>;

    /// Asks for `replicas` replicas; the answer is what is asked for now, which is fewer where slices were
    /// taken by another in the meantime.
    async fn set_replicas(&self, target: &ScaleTarget, replicas: u32) -> Result<u32, PlatformError>;

    /// What the placement of the target's next replica depends on.
    async fn capacity(&self, target: &ScaleTarget) -> Result<CapacityView, PlatformError>;
}
