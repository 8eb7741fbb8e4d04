//! Counts how many more replicas of a target would be placed, from a platform's view of the cluster.

use sluice_inventory::{Cluster, Promised, free_slices, free_slices_seen_from};
use sluice_scaling_policy::Free;

/// Maximum free slices that are counted. More make no difference, and each costs a first fit.
const COUNT_UP_TO: u32 = 1024;

/// Everything that the placement of a target's next replica depends on.
#[derive(Debug, Clone, Default)]
pub struct CapacityView {
    /// Namespace of the target. Results go into its status and events, which must not name objects of other namespaces.
    pub namespace: String,
    /// Slices, claims and classes.
    pub cluster: Cluster,
    /// DeviceClass that each replica claims one device of; `None` when it claims nothing.
    pub device_class: Option<String>,
    /// Claims that exist or will exist and hold no device yet; they are placed first.
    pub promised: Vec<Promised>,
    /// Number of the target's own pods that wait for a device; `promised` includes them.
    pub waiting: u32,
    /// Promised claims without those of the target's own waiting pods.
    pub promised_to_others: Vec<Promised>,
    /// Devices that each replica claims; 0 counts as 1.
    pub devices_per_replica: u32,
}

/// What is free for one target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Free slices, as the policy takes them.
    pub free: Free,
    /// Profile that each replica needs, for messages: `2g.10gb`; the name of the class where the profile is not known.
    pub profile: String,
    /// Whether `profile` is a profile: false until slices of the class are published.
    pub is_published: bool,
    /// Number of the target's waiting pods for which no slice is free.
    pub without_slice: u32,
    /// Whether only the first replica's pod will show what a replica claims.
    pub first_replica_tells: bool,
}

impl Capacity {
    /// Creates an unknown capacity, which allows no growth.
    pub fn unknown(reason: impl Into<String>) -> Self {
        Self { free: Free { slices: None, reason: reason.into() }, ..Self::default() }
    }

    /// Counts by repeated first fit after the promised claims.
    pub fn of(view: &CapacityView) -> Self {
        let Some(device_class) = &view.device_class else {
            let free = Free { slices: Some(COUNT_UP_TO), reason: "its replicas claim no device".to_owned() };
            return Self { free, ..Self::default() };
        };
        let each = view.devices_per_replica.max(1);
        let per_replica =
            if each > 1 { vec![format!("each replica claims {each} of them")] } else { Vec::new() };
        match free_slices_seen_from(&view.namespace, &view.cluster, device_class, &view.promised, COUNT_UP_TO)
        {
            Ok(found) => Self {
                is_published: found.free > 0 || found.profile != *device_class,
                profile: found.profile,
                without_slice: without_slice(view, device_class),
                free: Free {
                    slices: Some(found.free / each),
                    reason: [per_replica, vec![found.reason], found.problems].concat().join("; "),
                },
                first_replica_tells: false,
            },
            Err(refusal) => Self::unknown(refusal.to_string()),
        }
    }
}

/// Returns how many of the target's waiting pods would not be placed after those of others.
fn without_slice(view: &CapacityView, device_class: &str) -> u32 {
    let CapacityView { cluster, waiting, promised_to_others, .. } = view;
    if *waiting == 0 {
        return 0;
    }
    let placed = free_slices(cluster, device_class, promised_to_others, *waiting);
    waiting.saturating_sub(placed.map_or(*waiting, |found| found.free))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_that_does_not_exist_is_not_known_and_not_zero() {
        let view =
            CapacityView { device_class: Some("mig-9g.gpu.sluice.dev".to_owned()), ..Default::default() };
        let capacity = Capacity::of(&view);
        assert_eq!(capacity.free.slices, None);
        assert!(capacity.free.reason.contains("mig-9g.gpu.sluice.dev"), "{}", capacity.free.reason);
    }

    #[test]
    fn before_slices_are_published_there_is_no_profile() {
        let device_class = Some("mig-2g-10gb.gpu.sluice.dev".to_owned());
        let device_classes = sluice_inventory::device_classes_of_profiles("gpu.sluice.dev", &["2g.10gb"]);
        let cluster = Cluster { device_classes, ..Cluster::default() };
        let capacity = Capacity::of(&CapacityView { cluster, device_class, ..CapacityView::default() });
        assert_eq!((capacity.free.slices, capacity.is_published), (Some(0), false));
    }
}
