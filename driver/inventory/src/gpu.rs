//! GPU as plain data, which the driver gathers.
use serde::{Deserialize, Serialize};

use crate::geometry::MigProfile;

/// CUDA compute capability, such as 9.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ComputeCapability {
    /// Major number: the 9 of 9.0.
    pub major: u32,
    /// Minor number: the 0 of 9.0.
    pub minor: u32,
}

/// Physical GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// Minor number of `/dev/nvidia<minor>`, which is part of device names. Unlike NVML's index it does not depend on
    /// which GPUs are visible.
    pub minor: u32,
    /// UUID: `GPU-…`.
    pub uuid: String,
    /// Product name, such as `NVIDIA H100 80GB HBM3`.
    pub product: String,
    /// Architecture, such as `Ampere` or `Hopper`.
    pub architecture: String,
    /// CUDA compute capability.
    pub compute_capability: ComputeCapability,
    /// Version of NVIDIA's driver as NVML prints it, such as `580.95.05`.
    pub driver_version: String,
    /// PCI address `dddd:bb:dd.f`. NVML's form with an upper-case domain of eight digits is accepted too.
    pub pci_bus_id: String,
    /// Total memory in bytes.
    pub memory_bytes: u64,
    /// Number of streaming multiprocessors of the whole GPU.
    pub multiprocessors: u32,
    /// Number of memory slices in MIG mode: 8, or 4 on the A30; 0 if the GPU does not support MIG.
    pub memory_slices: u8,
    /// Whether MIG mode is on now.
    pub mig_enabled: bool,
    /// Whether the driver turns MIG mode on and off while it prepares a claim. Then both the full GPU and the
    /// placements are published, and their counters exclude each other.
    pub mig_switchable: bool,
    /// GPU-instance profiles. Empty if the GPU does not support MIG; NVML lists them even while MIG mode is off.
    pub mig_profiles: Vec<MigProfile>,
}

impl Gpu {
    /// Returns whether the full GPU can be used as one device: MIG mode is off, or the driver switches it.
    ///
    /// In MIG mode no process can use the GPU as a whole, so prepare of such a device would fail. A user who wants
    /// all of a GPU in MIG mode asks for its largest profile.
    pub fn serves_full(&self) -> bool {
        !self.mig_enabled || self.mig_switchable
    }

    /// Returns whether MIG placements can be used: MIG mode is on, or the driver switches it.
    pub fn serves_mig(&self) -> bool {
        !self.mig_profiles.is_empty() && (self.mig_enabled || self.mig_switchable)
    }
}
