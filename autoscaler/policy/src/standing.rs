//! How the replicas stand beyond their number: what keeps some from being ready, and a rollout that replaces them.
use serde::{Deserialize, Serialize};

/// What is known of the target's replicas and of what is in their way. Empty where the platform tells nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Standing {
    /// Why replicas are not ready, those that will not become ready by themselves first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub obstacles: Vec<Obstacle>,
    /// Pods that the target asks for already and for which no slice is free.
    pub without_slice: u32,
    /// Its replicas are being replaced by those of another revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
}

impl Standing {
    /// Replicas that will not become ready before somebody acts.
    pub fn failing(&self) -> u32 {
        self.obstacles.iter().filter(|one| one.cause.is_failure()).map(|one| one.replicas).sum()
    }
}

/// Some replicas that are not ready for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Obstacle {
    /// The reason.
    pub cause: Cause,
    /// How many.
    pub replicas: u32,
    /// Name of the pod that has been so the longest; empty where there is no pod.
    #[serde(default)]
    pub pod: String,
    /// The container that it is about; empty where it is about the whole pod.
    #[serde(default)]
    pub container: String,
    /// What the cluster says about it; may be empty.
    #[serde(default)]
    pub detail: String,
    /// Since when, as a timestamp of RFC 3339; empty where that is not known.
    #[serde(default)]
    pub since: String,
}

/// Why a replica is not ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Cause {
    /// Its pod cannot be created: a quota, an admission webhook or a policy refuses it.
    FailedCreate,
    /// A container ends again and again.
    CrashLoopBackOff,
    /// An image cannot be pulled.
    ImagePullBackOff,
    /// A container cannot be created, such as for want of a Secret.
    CreateContainerError,
    /// The scheduler finds no node for it.
    Unschedulable,
    /// A scheduling gate of Sluice holds it until a slice is free.
    SchedulingGated,
    /// A scheduling gate of somebody else holds it.
    GatedByOthers,
    /// Its node does not answer any more.
    NodeNotReady,
    /// All of its containers run, and it is not ready.
    PodNotReady,
    /// It is starting: placed, pulled, loaded or warmed.
    Starting,
}

impl Cause {
    /// Whether waiting alone will not help.
    pub fn is_failure(self) -> bool {
        matches!(
            self,
            Self::FailedCreate
                | Self::CrashLoopBackOff
                | Self::ImagePullBackOff
                | Self::CreateContainerError
                | Self::Unschedulable
        )
    }
}

/// A rollout: pods of an older revision are there beside those of the newest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rollout {
    /// The newest revision.
    pub revision: String,
    /// Pods of older revisions that are there and are not on their way out.
    pub old: u32,
    /// Pods of any revision that are on their way out; each gives its slice back.
    pub leaving: u32,
    /// The pod of the newest revision that has waited the longest for a slice.
    pub waiting: Option<Waiting>,
    /// A pod of the newest revision will not become ready by itself.
    pub is_failing: bool,
    /// What it does about old pods while no new one is ready.
    pub surrender: Surrender,
    /// Slices that its next step needs and no pod claims yet: they are kept for it.
    pub reserve: u32,
}

/// A pod that has no slice yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Waiting {
    /// Its name.
    pub pod: String,
    /// Since when, milliseconds on the input's clock.
    pub since_ms: u64,
}

/// Whether a rollout removes an old pod before a new one is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Surrender {
    /// It does by itself: a StatefulSet, `strategy: Recreate`, `maxUnavailable` of at least one.
    ByItself,
    /// It removes one when there are fewer replicas, and only then: a Deployment with `maxUnavailable: 0`.
    WhenLowered,
    /// It stands still because its user has paused it.
    Paused,
    /// It is of a kind of which that is not known.
    Unknown,
}
