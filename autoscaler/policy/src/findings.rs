//! Facts about a target beside its numbers: who else scales it, and what is not known.
use serde::{Deserialize, Serialize};

use crate::decision::Reason;

/// Facts about a target that neither demand nor free slices show. The default means that nothing is in the way.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Findings {
    /// Reason to leave the replicas alone whatever the demand is; `None` = they follow demand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// Whether others can set the replicas too, so that zero replicas may be intended.
    pub others_scale: bool,
    /// Whether only a replica's pod will show what a replica claims. The first replica is then asked for although the
    /// number of free slices is not known.
    pub first_replica_tells: bool,
}

/// Reason to leave the replicas alone, with its explanation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hold {
    /// Reason, for programs.
    pub reason: HoldReason,
    /// Explanation, for people: who is in the way, and what to do.
    pub message: String,
}

/// Reason to leave the replicas alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HoldReason {
    /// Another autoscaler scales the same replicas: nothing is written.
    AmbiguousTarget,
    /// The target's selector matches pods that are not its own: demand means nothing, bounds still hold.
    AmbiguousSelector,
    /// Something sets the replicas back again and again: nothing is written for a while.
    ScaleContested,
}

impl HoldReason {
    /// All reasons.
    pub const ALL: [Self; 3] = [Self::AmbiguousTarget, Self::AmbiguousSelector, Self::ScaleContested];

    /// Returns the word that conditions and events use.
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    /// Returns the same reason as a decision gives it.
    pub fn as_reason(self) -> Reason {
        match self {
            Self::AmbiguousTarget => Reason::AmbiguousTarget,
            Self::AmbiguousSelector => Reason::AmbiguousSelector,
            Self::ScaleContested => Reason::ScaleContested,
        }
    }
}
