//! Which scheduling gates to lift, and why the others stay: pure functions over pods, claims and an inventory.
//!
//! ```text
//!  Pod ──look──▶ gated │ in flight │ of no concern
//!                  │        │
//!                  ▼        ▼          trial: the scheduler's first fit, on the pods' own claims
//!               decide: who is in flight is placed first, then the gated ones by priority and age
//!                  └──▶ Lift(why) │ Wait(reason)          patch: one guarded JSON patch per lift
//! ```
//!
//! A gate holds placement and nothing else, so it fails open: whatever cannot be counted is lifted, and so is
//! whatever has waited for its deadline. Nothing is remembered here; after a restart the same objects give the
//! same decisions.

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

/// How long nothing may be known that could ever take a pod before its gate is lifted for that: a driver that
/// publishes its slices anew, or a class that is just being installed, takes less.
pub(crate) const UNPLACEABLE_FOR: Duration = Duration::from_secs(10);

/// Which pod, exactly.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PodRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID: another pod may have the same name later.
    pub uid: String,
}

/// What a pod wants of the cluster.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wants {
    /// Its claims that have no devices yet; a shared one may have been placed for another pod.
    pub claims: Vec<ResourceClaim>,
    /// The first of its claims that does not exist (yet), in words.
    pub missing: Option<String>,
    /// Nodes that do not take it: closed ones, and those that its own specification excludes.
    pub closed_nodes: Arc<BTreeSet<String>>,
}

/// A pod that is held by a gate of ours.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Gated {
    /// Which.
    pub pod: PodRef,
    /// Higher ones go first.
    pub priority: i32,
    /// Older ones go first.
    pub created: Option<Timestamp>,
    /// What it wants.
    pub wants: Wants,
    /// Gates of others; while there are any, ours stays.
    pub foreign_gates: Vec<String>,
    /// How long it has waited for us alone.
    pub age: Duration,
    /// After how long it is lifted whatever is free.
    pub deadline: Duration,
    /// How long nothing has been known that could ever take it.
    pub unplaceable_for: Duration,
    /// Its last lift was refused, and it is not time for another try.
    pub backs_off: bool,
}

/// A pod without a gate whose devices are still to be allocated: a lift in flight, or somebody who had no gate.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct InFlight {
    /// Which.
    pub pod: PodRef,
    /// Higher ones go first.
    pub priority: i32,
    /// Older ones go first.
    pub created: Option<Timestamp>,
    /// What it wants.
    pub wants: Wants,
}

/// Everything that decisions depend on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    /// Slices, claims, classes; `unschedulable_nodes` are those that are closed to everybody.
    pub cluster: Cluster,
    /// Held by a gate of ours, in any order.
    pub gated: Vec<Gated>,
    /// Placed before any of them.
    pub in_flight: Vec<InFlight>,
}

/// Why a gate is lifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Why {
    /// What it claims is free.
    SliceFree,
    /// It claims nothing that is still to be allocated.
    NothingToClaim,
    /// What it claims cannot be counted: the scheduler decides alone.
    NotCounted,
    /// No node could ever take it: whoever adds nodes must see it.
    NeedsNode,
    /// It has waited long enough.
    Deadline,
}

impl Why {
    /// Every one.
    pub(crate) const ALL: [Self; 5] =
        [Self::SliceFree, Self::NothingToClaim, Self::NotCounted, Self::NeedsNode, Self::Deadline];

    /// As a metric's label has it.
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
    /// What it claims is not free.
    NoFreeSlice,
    /// What it claims is free, and the last place for somebody before it.
    BehindOlder,
    /// Somebody else holds it too.
    ForeignGate,
    /// A claim of it does not exist yet.
    ClaimMissing,
    /// No node could ever take it, but not for long yet.
    NeedsNode,
    /// The API server refused to lift it.
    Refused,
}

impl Reason {
    /// Every one.
    pub(crate) const ALL: [Self; 6] = [
        Self::NoFreeSlice,
        Self::BehindOlder,
        Self::ForeignGate,
        Self::ClaimMissing,
        Self::NeedsNode,
        Self::Refused,
    ];

    /// As a metric's label has it.
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

/// What becomes of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// It is removed now.
    Lift(Why),
    /// It stays.
    Wait(Reason),
}

/// The decision on one gated pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    /// On which.
    pub pod: PodRef,
    /// What becomes of its gate.
    pub action: Action,
    /// The same in words, for people.
    pub message: String,
}
