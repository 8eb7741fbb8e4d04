//! MIG geometry as data: the MIG profiles of each simulated GPU model.
//!
//! There are two spaces of identifiers, which are easily confused: [`GpuProfile::enumeration`] is the argument of
//! `nvmlDeviceGetGpuInstanceProfileInfo`; [`GpuProfile::id`] is what that call returns and what placements and
//! creation take. The numbers are those that NVIDIA's own tools print on real GPUs (`nvidia-smi mig -lgip` and
//! `-lgipp`). The tables of a model are in a file of its own.
//!
//! The README of this crate lists the steps to add a model.

mod a100;
mod a30;
mod b200;
mod compute;
mod h100;
mod h200;

pub use compute::ComputeProfile;

/// Micro-architecture, with its number in `nvmlDeviceGetArchitecture`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Architecture {
    /// A30 and A100. Enabling MIG resets the GPU; the mode survives a reboot.
    Ampere = 7,
    /// H100 and H200. MIG is enabled without a reset.
    Hopper = 9,
    /// B200.
    Blackwell = 10,
}

/// Model of a GPU: identity and MIG profiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Model {
    /// Name in topology files, such as `A100-SXM4-40GB`.
    pub name: &'static str,
    /// Name that `nvmlDeviceGetName` returns.
    pub product_name: &'static str,
    /// Micro-architecture.
    pub architecture: Architecture,
    /// CUDA compute capability, (major, minor).
    pub compute_capability: (i32, i32),
    /// Total memory in MiB.
    pub memory_mib: u64,
    /// PCI device id in the upper 16 bits, vendor 0x10DE in the lower.
    pub pci_device_id: u32,
    /// Enforced power limit in milliwatts.
    pub power_limit_mw: u32,
    /// Maximum clocks of SM and memory in MHz.
    pub max_clock_mhz: (u32, u32),
    /// Number of memory slices: 8, or 4 on an A30.
    pub memory_slices: u32,
    /// Maximum GPU instances at a time, which is also the number of compute slices: 7, or 4 on an A30.
    pub compute_slices: u32,
    /// GPU-instance profiles.
    pub profiles: &'static [GpuProfile],
}

/// GPU-instance profile of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuProfile {
    /// Number `NVML_GPU_INSTANCE_PROFILE_*`, the argument of the profile-info calls.
    pub enumeration: u32,
    /// Id that those calls return and that creation takes.
    pub id: u32,
    /// Name without NVML's prefix "MIG ", such as `1g.5gb+me`.
    pub name: &'static str,
    /// Number of compute slices (the `1` of `1g`).
    pub compute_slices: u32,
    /// Memory of one instance in MiB.
    pub memory_mib: u64,
    /// Number of streaming multiprocessors.
    pub multiprocessors: u32,
    /// Number of copy engines.
    pub copy_engines: u32,
    /// Number of video decoders.
    pub decoders: u32,
    /// Number of JPEG engines.
    pub jpeg_engines: u32,
    /// Number of optical-flow accelerators.
    pub ofa_engines: u32,
    /// Maximum instances of this profile at a time.
    pub max_instances: u32,
    /// Allowed first memory slices, in the order in which creation without a placement tries them.
    pub starts: &'static [u32],
    /// Number of memory slices of an instance.
    pub size: u32,
}

/// Interval of slices: memory slices of a GPU, or compute slices of a GPU instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placement {
    /// First slice.
    pub start: u32,
    /// Number of slices.
    pub size: u32,
}

impl Placement {
    /// Returns whether two intervals share a slice.
    pub fn overlaps(self, other: Placement) -> bool {
        self.start < other.start + other.size && other.start < self.start + self.size
    }
}

impl GpuProfile {
    /// Returns the allowed placements in order of their first slice.
    pub fn placements(&self) -> Vec<Placement> {
        let mut placements: Vec<_> = self.default_order().collect();
        placements.sort_unstable();
        placements
    }

    /// Iterates over the allowed placements in the order in which creation without a placement tries them.
    pub fn default_order(&self) -> impl Iterator<Item = Placement> + '_ {
        self.starts.iter().map(|&start| Placement { start, size: self.size })
    }

    /// Returns whether an instance takes the media extensions of the GPU (`+me` profiles), of which it has one set.
    pub fn takes_media_extensions(&self) -> bool {
        self.name.ends_with("+me")
    }
}

impl Model {
    /// Returns all models in the order of the documentation.
    pub fn all() -> &'static [&'static Model] {
        &[&a100::A100_40, &a100::A100_80, &a30::A30, &h100::H100_80, &h200::H200, &b200::B200]
    }

    /// Returns the model of a name in topology files.
    pub fn find(name: &str) -> Option<&'static Model> {
        Self::all().iter().copied().find(|model| model.name == name)
    }

    /// Returns the profile with a number `NVML_GPU_INSTANCE_PROFILE_*`.
    pub fn profile_by_enumeration(&self, enumeration: u32) -> Option<&'static GpuProfile> {
        self.profiles.iter().find(|profile| profile.enumeration == enumeration)
    }

    /// Returns the profile with an id.
    pub fn profile(&self, id: u32) -> Option<&'static GpuProfile> {
        self.profiles.iter().find(|profile| profile.id == id)
    }

    /// Returns the id that the kernel driver gives to an instance at `placement`. It numbers the nodes of a binary
    /// tree over the memory slices (the whole 0, halves 1 and 2, quarters 3 to 6, eighths 7 to 14), so the id is
    /// `slices / size - 1 + start / size`. The same placement always has the same id.
    pub fn gpu_instance_id(&self, placement: Placement) -> u32 {
        self.memory_slices / placement.size - 1 + placement.start / placement.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_placement_lies_on_the_gpu_and_ids_tell_overlapping_sizes_apart() {
        for model in Model::all() {
            for profile in model.profiles {
                assert!(!profile.starts.is_empty(), "{} {}", model.name, profile.name);
                for placement in profile.placements() {
                    assert!(placement.start + placement.size <= model.memory_slices);
                    assert_eq!(placement.start % placement.size, 0, "{} {}", model.name, profile.name);
                    assert!(model.gpu_instance_id(placement) <= 14);
                }
            }
        }
    }

    #[test]
    fn eight_slice_parts_have_twenty_five_placements() {
        for model in Model::all().iter().filter(|model| model.memory_slices == 8) {
            let placements: usize = model.profiles.iter().map(|profile| profile.starts.len()).sum();
            assert_eq!(placements, 25, "{}", model.name);
        }
    }

    #[test]
    fn ids_and_enumeration_numbers_are_unique_in_a_model() {
        for model in Model::all() {
            for profile in model.profiles {
                assert_eq!(model.profile(profile.id), Some(profile));
                assert_eq!(model.profile_by_enumeration(profile.enumeration), Some(profile));
            }
        }
    }

    #[test]
    fn instance_ids_follow_the_captures_of_the_real_parts() {
        let model = Model::find("H100-80GB-HBM3").unwrap();
        let id = |start, size| model.gpu_instance_id(Placement { start, size });
        assert_eq!((id(0, 8), id(0, 4), id(4, 4)), (0, 1, 2));
        assert_eq!((id(0, 2), id(2, 2), id(4, 2)), (3, 4, 5));
        assert_eq!((id(0, 1), id(4, 1), id(6, 1)), (7, 11, 13));
    }
}
