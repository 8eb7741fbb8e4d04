//! One GPU as plain data, gathered by the driver.
use serde::{Deserialize, Serialize};

use crate::geometry::MigProfile;

/// CUDA compute capability, e.g. 9.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ComputeCapability {
    /// The 9 of 9.0.
    pub major: u32,
    /// The 0 of 9.0.
    pub minor: u32,
}

/// One physical GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// Minor number of `/dev/nvidia<minor>`; device names are made of it. Unlike NVML's index it does not
    /// depend on which GPUs are visible.
    pub minor: u32,
    /// `GPU-…`.
    pub uuid: String,
    /// Product name, e.g. `NVIDIA H100 80GB HBM3`.
    pub product: String,
    /// `Ampere`, `Hopper`, …
    pub architecture: String,
    /// CUDA compute capability.
    pub compute_capability: ComputeCapability,
    /// NVIDIA driver's version as NVML prints it, e.g. `580.95.05`.
    pub driver_version: String,
    /// PCI address `dddd:bb:dd.f` (NVML's eight-digit upper-case domain is accepted too).
    pub pci_bus_id: String,
    /// All of its memory, bytes.
    pub memory_bytes: u64,
    /// All of its streaming multiprocessors.
    pub multiprocessors: u32,
    /// Memory slices in MIG mode: 8, or 4 on the A30; 0 where the GPU has no MIG.
    pub memory_slices: u8,
    /// Whether MIG mode is on now.
    pub mig_enabled: bool,
    /// Whether the driver itself turns MIG mode on and off while preparing a claim. Then both the full
    /// GPU and the placements are published; their counters exclude each other.
    pub mig_switchable: bool,
    /// GPU-instance profiles; empty where the GPU has no MIG. Readable with MIG mode off.
    pub mig_profiles: Vec<MigProfile>,
}

impl Gpu {
    /// Whether the full GPU can be served as one device: MIG mode is off, or the driver switches it.
    ///
    /// In MIG mode no process can use the GPU as a whole, so publishing it would hand out a device that
    /// fails at prepare. Who wants all of a GPU in MIG mode asks for its largest profile.
    pub fn serves_full(&self) -> bool {
        !self.mig_enabled || self.mig_switchable
    }

    /// Whether MIG placements can be served: MIG mode is on, or the driver switches it.
    pub fn serves_mig(&self) -> bool {
        !self.mig_profiles.is_empty() && (self.mig_enabled || self.mig_switchable)
    }
}
