//! What was found out about a target beside its numbers.
use serde::{Deserialize, Serialize};

use crate::decision::Reason;

/// Facts about a target that neither demand nor free slices tell. The default: nothing stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Findings {
    /// Why the replicas are left alone whatever the demand is; `None` = they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// Whether others can set the replicas too, so that zero replicas may be their wish.
    pub others_scale: bool,
    /// Whether only a replica's pod will tell what a replica claims. The first replica is then asked for although
    /// it is not known what is free.
    pub first_replica_tells: bool,
}

/// A reason to leave the replicas alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hold {
    /// Why, for machines.
    pub reason: HoldReason,
    /// Why, for people: who is in the way, and what to do.
    pub message: String,
}

/// Why replicas are left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HoldReason {
    /// Another autoscaler scales the same replicas: nothing is written.
    AmbiguousTarget,
    /// The target's selector matches pods that are not its own: demand tells nothing, bounds still hold.
    AmbiguousSelector,
    /// Somebody sets the replicas back again and again: nothing is written for a while.
    ScaleContested,
}

impl HoldReason {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::AmbiguousTarget, Self::AmbiguousSelector, Self::ScaleContested];

    /// The word of conditions and events.
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    /// The same as a decision's reason.
    pub fn as_reason(self) -> Reason {
        match self {
            Self::AmbiguousTarget => Reason::AmbiguousTarget,
            Self::AmbiguousSelector => Reason::AmbiguousSelector,
            Self::ScaleContested => Reason::ScaleContested,
        }
    }
}
