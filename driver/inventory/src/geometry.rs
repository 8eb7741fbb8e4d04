//! Geometry of a GPU: its MIG profiles and where on the GPU an instance of each may start.
use serde::{Deserialize, Serialize};

/// Position of a GPU instance: `size` memory slices from `start` on.
///
/// The numbers are those of NVML (`nvmlGpuInstancePlacement_t`). `size` counts *memory* slices, so it may exceed the
/// compute slices of the profile: 3g takes 4, 7g takes 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Placement {
    /// First memory slice, from 0.
    pub start: u8,
    /// Number of memory slices.
    pub size: u8,
}

impl Placement {
    /// Returns the memory slices that the instance covers.
    pub fn slices(self) -> std::ops::Range<u8> {
        self.start..self.start.saturating_add(self.size)
    }

    /// Returns whether both cover a common memory slice.
    pub fn overlaps(self, other: Self) -> bool {
        self.start < other.slices().end && other.start < self.slices().end
    }
}

/// GPU-instance profile as NVML describes it for one GPU.
///
/// Names and memory change with the version of NVIDIA's driver, so they are always read from NVML and never looked up
/// in a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigProfile {
    /// Id of the profile (`nvmlGpuInstanceProfileInfo_t.id`), which create takes and `nvidia-smi` prints. It is not
    /// the enum value by which NVML is asked for the profile.
    pub profile_id: u32,
    /// Name, such as `2g.20gb` or `1g.10gb+me`.
    pub name: String,
    /// Number of compute slices: the `2` of `2g.20gb`.
    pub compute_slices: u8,
    /// Number of memory slices of one instance, which is the size of its placements.
    pub memory_slices: u8,
    /// Memory of one instance in MiB.
    pub memory_mib: u64,
    /// Number of streaming multiprocessors of one instance.
    pub multiprocessors: u32,
    /// Whether an instance takes the media extensions of the GPU (`+me`), of which it has one set.
    pub has_media_extensions: bool,
    /// Maximum instances of the profile on one empty GPU.
    pub max_instances: u32,
    /// Places where an instance may be created.
    pub placements: Vec<Placement>,
}
