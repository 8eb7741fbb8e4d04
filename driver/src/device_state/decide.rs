//! Decision about one slice, from its record and the existing GPU instances. Pure. The rules that tell the driver's
//! own instances from foreign ones are only here.

use crate::checkpoint::{Instance, SliceRecord};
use crate::gpus::GpuInstance;

/// How a slice gets its GPU instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Use the own instance, which exists already.
    Use(GpuInstance),
    /// Create the instance: the placement is free.
    Create,
    /// Fail: a foreign instance occupies the placement.
    Blocked(GpuInstance),
}

/// Returns the existing instance of the slice that this driver has created; `None` if it has created none.
///
/// It must have the profile and placement of the slice, be of this boot, and either have the recorded id or be where
/// the driver was about to create one.
pub(super) fn ours(slice: &SliceRecord, boot_id: &str, standing: &[GpuInstance]) -> Option<GpuInstance> {
    let exact = standing
        .iter()
        .find(|instance| instance.profile_id == slice.profile_id && instance.placement == slice.placement)?;
    let is_ours = match &slice.instance {
        Instance::Absent => false,
        Instance::Creating { boot_id: boot } => boot == boot_id,
        Instance::Standing { boot_id: boot, gpu_instance, .. } => {
            boot == boot_id && *gpu_instance == exact.id
        }
    };
    is_ours.then_some(*exact)
}

/// Decides how the slice gets its instance.
pub(super) fn step(slice: &SliceRecord, boot_id: &str, standing: &[GpuInstance]) -> Step {
    if let Some(instance) = ours(slice, boot_id, standing) {
        return Step::Use(instance);
    }
    match standing.iter().find(|instance| instance.placement.overlaps(slice.placement)) {
        Some(foreign) => Step::Blocked(*foreign),
        None => Step::Create,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpus::ComputeInstance;
    use sluice_inventory::Placement;

    fn slice(instance: Instance) -> SliceRecord {
        SliceRecord { profile_id: 14, placement: Placement { start: 4, size: 2 }, instance }
    }

    fn instance(id: u32, profile_id: u32, start: u8, size: u8) -> GpuInstance {
        GpuInstance { id, profile_id, placement: Placement { start, size } }
    }

    fn creating(boot: &str) -> Instance {
        Instance::Creating { boot_id: boot.to_owned() }
    }

    fn standing(boot: &str, gpu_instance: u32) -> Instance {
        let compute = ComputeInstance { id: 0, uuid: "MIG-1".to_owned() };
        Instance::Standing { boot_id: boot.to_owned(), gpu_instance, compute }
    }

    #[test]
    fn what_stands_where_we_were_about_to_create_is_ours() {
        let exact = instance(5, 14, 4, 2);
        assert_eq!(step(&slice(creating("b")), "b", &[exact]), Step::Use(exact));
        assert_eq!(step(&slice(standing("b", 5)), "b", &[exact]), Step::Use(exact));
    }

    #[test]
    fn what_we_never_began_or_began_before_a_reboot_is_foreign() {
        let exact = instance(5, 14, 4, 2);
        for state in [Instance::Absent, creating("earlier"), standing("earlier", 5), standing("b", 6)] {
            assert_eq!(step(&slice(state.clone()), "b", &[exact]), Step::Blocked(exact));
            assert_eq!(ours(&slice(state), "b", &[exact]), None);
        }
    }

    #[test]
    fn another_instance_in_the_same_place_is_never_ours() {
        for other in [instance(5, 15, 4, 2), instance(2, 9, 4, 4), instance(11, 19, 5, 1)] {
            assert_eq!(step(&slice(creating("b")), "b", &[other]), Step::Blocked(other));
            assert_eq!(ours(&slice(creating("b")), "b", &[other]), None);
        }
    }

    #[test]
    fn an_empty_place_is_created_again_whatever_is_remembered() {
        let beside = instance(3, 14, 0, 2);
        for state in [Instance::Absent, creating("b"), standing("b", 5)] {
            assert_eq!(step(&slice(state), "b", &[beside]), Step::Create);
        }
    }
}
