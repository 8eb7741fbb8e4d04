//! Which scheduling gates to lift, and why the others stay: pure functions over pods, claims and an inventory.
//!
//! ```text
//!  Pod ──Look──▶ gated │ in flight │ of no concern
//!                  │        │
//!                  ▼        ▼          AllocationTrial: the scheduler's first fit, on the pods' own claims
//!               decide: places pods in flight first, then gated pods by priority and age
//!                  └──▶ Lift(why) │ Wait(reason)          patch: one guarded JSON patch per lift
//! ```
//!
//! A gate holds placement and nothing else, so it fails open: a pod whose claims cannot be counted is lifted, and so is
//! a pod that has waited for its deadline. This module keeps no state; after a restart the same objects give the same
//! decisions.

mod decide;
mod look;
mod patch;
#[cfg(test)]
mod tests;
mod trial;
#[cfg(test)]
pub(crate) mod world;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::resource::v1::ResourceClaim;
use k8s_openapi::jiff::Timestamp;
use sluice_inventory::Cluster;

pub(crate) use decide::{decide, decide_by_age};
pub(crate) use look::{ClaimIndex, Look, Stage, placement_key};
pub(crate) use patch::lift_patch;

/// Time for which no node could ever take a pod before its gate is lifted for that. A driver that publishes its slices
/// anew, or a class that is being installed, takes less.
pub(crate) const UNPLACEABLE_FOR: Duration = Duration::from_secs(10);

/// Identity of a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PodRef {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// UID of the pod: another pod may have the same name later.
    pub uid: String,
}

/// Devices that a pod needs, and nodes that it can have them on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wants {
    /// Claims of the pod without an allocation. A shared one may have been placed for another pod.
    pub claims: Vec<ResourceClaim>,
    /// Message that names the first claim that does not exist (yet); `None` if all exist.
    pub missing: Option<String>,
    /// Nodes that cannot take the pod: closed ones, and those that its own specification excludes.
    pub closed_nodes: Arc<BTreeSet<String>>,
}

/// A pod that a gate of ours holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Gated {
    /// Identity of the pod.
    pub pod: PodRef,
    /// Priority; higher ones go first.
    pub priority: i32,
    /// Creation time; older pods go first.
    pub created: Option<Timestamp>,
    /// Devices that it needs.
    pub wants: Wants,
    /// Foreign gates; while there are any, ours stays.
    pub foreign_gates: Vec<String>,
    /// Time that the pod has waited for our gate alone.
    pub age: Duration,
    /// Age at which the gate is lifted even if no slice is free.
    pub deadline: Duration,
    /// Time for which no node could ever have taken the pod; zero if one can.
    pub unplaceable_for: Duration,
    /// Whether the last lift was refused and the pause before the next attempt lasts.
    pub backs_off: bool,
}

/// A pod without a gate whose devices are still to be allocated: a lifted one, or one that never had a gate.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct InFlight {
    /// Identity of the pod.
    pub pod: PodRef,
    /// Priority; higher ones go first.
    pub priority: i32,
    /// Creation time; older pods go first.
    pub created: Option<Timestamp>,
    /// Devices that it needs.
    pub wants: Wants,
}

/// All facts that decisions depend on, at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    /// Slices, claims and classes; `unschedulable_nodes` are the nodes that are closed to all pods.
    pub cluster: Cluster,
    /// Pods that a gate of ours holds, in any order.
    pub gated: Vec<Gated>,
    /// Pods that are placed before any gated one.
    pub in_flight: Vec<InFlight>,
}

/// Why a gate is lifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Why {
    /// The devices that the pod claims are free.
    SliceFree,
    /// The pod claims nothing that is still to be allocated.
    NothingToClaim,
    /// The claims of the pod cannot be counted: the scheduler decides alone.
    NotCounted,
    /// No node could ever take the pod: a cluster autoscaler must see it.
    NeedsNode,
    /// The pod's deadline is over.
    Deadline,
}

impl Why {
    /// All values.
    pub(crate) const ALL: [Self; 5] =
        [Self::SliceFree, Self::NothingToClaim, Self::NotCounted, Self::NeedsNode, Self::Deadline];

    /// Returns the value of the metric's label.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::SliceFree => "slice_free",
            Self::NothingToClaim => "nothing_to_claim",
            Self::NotCounted => "not_counted",
            Self::NeedsNode => "needs_node",
            Self::Deadline => "deadline",
        }
    }
}

/// Why a gate stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// The devices that the pod claims are not free.
    NoFreeSlice,
    /// The devices that the pod claims are free, but an older pod has no other place.
    BehindOlder,
    /// A foreign gate holds the pod too.
    ForeignGate,
    /// A claim of the pod does not exist yet.
    ClaimMissing,
    /// No node could ever take the pod, but not for long enough yet.
    NeedsNode,
    /// The API server refused the last lift.
    Refused,
}

impl Reason {
    /// All values.
    pub(crate) const ALL: [Self; 6] = [
        Self::NoFreeSlice,
        Self::BehindOlder,
        Self::ForeignGate,
        Self::ClaimMissing,
        Self::NeedsNode,
        Self::Refused,
    ];

    /// Returns the value of the metric's label.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::NoFreeSlice => "no_free_slice",
            Self::BehindOlder => "behind_older",
            Self::ForeignGate => "foreign_gate",
            Self::ClaimMissing => "claim_missing",
            Self::NeedsNode => "needs_node",
            Self::Refused => "refused",
        }
    }
}

/// What to do with a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Removes it now.
    Lift(Why),
    /// Leaves it.
    Wait(Reason),
}

/// The decision on one gated pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    /// Identity of the pod.
    pub pod: PodRef,
    /// What to do with its gate.
    pub action: Action,
    /// Human-readable message.
    pub message: String,
}
