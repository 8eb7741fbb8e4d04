//! Published device: its name and what the driver must create for it.
use sluice_config::names::devices as names;

use crate::geometry::Placement;

/// Kind of a published device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceKind {
    /// Full GPU.
    Full,
    /// MIG placement.
    Mig {
        /// Id of the GPU-instance profile to create.
        profile_id: u32,
        /// Profile name, such as `2g.20gb`.
        profile: String,
        /// Memory slices on which to create the instance.
        placement: Placement,
    },
}

/// Published device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceEntry {
    /// Name in the ResourceSlice.
    pub name: String,
    /// Minor number of the GPU.
    pub gpu_minor: u32,
    /// Full GPU or MIG placement.
    pub kind: DeviceKind,
}

impl DeviceEntry {
    /// Returns the profile name, such as `2g.20gb`, or `full`.
    pub fn profile(&self) -> &str {
        match &self.kind {
            DeviceKind::Full => names::PROFILE_FULL,
            DeviceKind::Mig { profile, .. } => profile,
        }
    }
}
