//! From a platform's view of the cluster to what the policy asks: how many more replicas would be placed.

use sluice_inventory::{Cluster, Promised, free_slices};
use sluice_scaling_policy::Free;

/// Counting stops here: nobody needs to know of more than this many free slices, and each is a first fit.
const COUNT_UP_TO: u32 = 1024;

/// Everything that placement of one target's next replica depends on.
#[derive(Debug, Clone, Default)]
pub struct CapacityView {
    /// Slices, claims and classes.
    pub cluster: Cluster,
    /// DeviceClass that each replica claims one device of.
    pub device_class: String,
    /// Claims that were asked for and hold nothing yet; they come first.
    pub promised: Vec<Promised>,
}

/// What is free for one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capacity {
    /// For the policy.
    pub free: Free,
    /// What each replica needs, for messages: `2g.10gb`.
    pub profile: String,
}

impl Capacity {
    /// Nothing is known, for a reason; the policy then allows no growth.
    pub fn unknown(reason: impl Into<String>) -> Self {
        Self { free: Free { slices: None, reason: reason.into() }, profile: String::new() }
    }

    /// Repeated first fit after the promised claims.
    pub fn of(view: &CapacityView) -> Self {
        match free_slices(&view.cluster, &view.device_class, &view.promised, COUNT_UP_TO) {
            Ok(found) => {
                Self { free: Free { slices: Some(found.free), reason: found.reason }, profile: found.profile }
            }
            Err(refusal) => Self::unknown(refusal.to_string()),
        }
    }
}
