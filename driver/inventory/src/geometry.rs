//! How one GPU can be cut: MIG profiles and where on the GPU each may start.
use serde::{Deserialize, Serialize};

/// Where a GPU instance lies, in memory slices: `size` slices from `start` on.
///
/// The numbers are NVML's (`nvmlGpuInstancePlacement_t`). `size` counts *memory* slices, so it may
/// exceed the profile's compute slices: 3g takes 4, 7g takes 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Placement {
    /// First memory slice, from 0.
    pub start: u8,
    /// How many memory slices.
    pub size: u8,
}

impl Placement {
    /// The memory slices that it covers.
    pub fn slices(self) -> std::ops::Range<u8> {
        self.start..self.start.saturating_add(self.size)
    }

    /// Whether both cover a common memory slice.
    pub fn overlaps(self, other: Self) -> bool {
        self.start < other.slices().end && other.start < self.slices().end
    }
}

/// One GPU-instance profile as NVML describes it for one GPU.
///
/// Names and memory change with the NVIDIA driver's version: they are always read, never looked up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigProfile {
    /// GI profile id (`nvmlGpuInstanceProfileInfo_t.id`, what create takes and `nvidia-smi` prints);
    /// not the enum value with which the profile is asked for.
    pub profile_id: u32,
    /// `2g.20gb`, `1g.10gb+me`.
    pub name: String,
    /// Compute slices: the `2` of `2g.20gb`.
    pub compute_slices: u8,
    /// Memory slices that one instance takes (the size of its placements).
    pub memory_slices: u8,
    /// Memory of one instance, MiB.
    pub memory_mib: u64,
    /// Streaming multiprocessors of one instance.
    pub multiprocessors: u32,
    /// Whether it takes the GPU's media extensions (`+me`), of which there is one set per GPU.
    pub has_media_extensions: bool,
    /// Most instances of it on one empty GPU.
    pub max_instances: u32,
    /// Where it may lie.
    pub placements: Vec<Placement>,
}
