//! Condition of the replicas beyond their number: what keeps some from being ready, and a rollout that replaces them.
use serde::{Deserialize, Serialize};

/// Condition of the target's replicas. Empty where the platform reports nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Standing {
    /// Reasons why replicas are not ready, failures first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub obstacles: Vec<Obstacle>,
    /// Number of pods that exist and for which no slice is free.
    pub without_slice: u32,
    /// Rollout in progress; `None` = none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
}

impl Standing {
    /// Returns the number of replicas that will not become ready by waiting.
    pub fn failing(&self) -> u32 {
        self.obstacles.iter().filter(|one| one.cause.is_failure()).map(|one| one.replicas).sum()
    }
}

/// Replicas that are not ready for the same reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Obstacle {
    /// Reason.
    pub cause: Cause,
    /// Number of replicas.
    pub replicas: u32,
    /// Name of the pod that has been in this state the longest; empty where there is no pod.
    #[serde(default)]
    pub pod: String,
    /// Name of the container; empty where the whole pod is concerned.
    #[serde(default)]
    pub container: String,
    /// Message of the cluster; may be empty.
    #[serde(default)]
    pub detail: String,
    /// Begin of this state, RFC 3339; empty where that is not known.
    #[serde(default)]
    pub since: String,
}

/// Reason why a replica is not ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Cause {
    /// Its pod cannot be created: a quota, an admission webhook or a policy refuses it.
    FailedCreate,
    /// A container ends again and again.
    CrashLoopBackOff,
    /// An image cannot be pulled.
    ImagePullBackOff,
    /// A container cannot be created, e.g. because a Secret is missing.
    CreateContainerError,
    /// The scheduler finds no node for it.
    Unschedulable,
    /// A scheduling gate of Sluice holds it until a slice is free.
    SchedulingGated,
    /// A scheduling gate of another controller holds it.
    GatedByOthers,
    /// Its node does not respond any more.
    NodeNotReady,
    /// All of its containers run, but it is not ready.
    PodNotReady,
    /// It is starting: placed, pulled, loaded or warmed.
    Starting,
}

impl Cause {
    /// Returns whether waiting alone will not help.
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

/// A rollout: pods of an older revision exist beside those of the newest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rollout {
    /// Newest revision.
    pub revision: String,
    /// Number of pods of older revisions that are not terminating.
    pub old: u32,
    /// Number of terminating pods of any revision; each will give its slice back.
    pub leaving: u32,
    /// Pod of the newest revision that has waited the longest for a slice; `None` = no pod waits.
    pub waiting: Option<Waiting>,
    /// Whether a pod of the newest revision will not become ready by waiting.
    pub is_failing: bool,
    /// Whether it removes an old pod before a new one is ready.
    pub surrender: Surrender,
    /// Number of slices that its next step needs and no pod claims yet. They are reserved for it.
    pub reserve: u32,
}

/// A pod that has no slice yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Waiting {
    /// Name of the pod.
    pub pod: String,
    /// Time since which it waits, milliseconds on the input's clock.
    pub since_ms: u64,
}

/// Whether a rollout removes an old pod before a new one is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Surrender {
    /// It removes one by itself: a StatefulSet, `strategy: Recreate`, `maxUnavailable` of at least one.
    ByItself,
    /// It removes one only when the replicas are lowered: a Deployment with `maxUnavailable: 0`.
    WhenLowered,
    /// Its user has paused the rollout.
    Paused,
    /// The behaviour of this kind is not known.
    Unknown,
}
