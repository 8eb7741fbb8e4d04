//! A device as it is published: its name and what the driver must create for it.
use sluice_config::names::devices as names;

use crate::geometry::Placement;

/// What a published device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceKind {
    /// The full GPU.
    Full,
    /// One MIG placement.
    Mig {
        /// GI profile id to create.
        profile_id: u32,
        /// Profile name, `2g.20gb`.
        profile: String,
        /// Where to create it.
        placement: Placement,
    },
}

/// A published device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceEntry {
    /// Name in the ResourceSlice.
    pub name: String,
    /// Minor number of its GPU.
    pub gpu_minor: u32,
    /// Full GPU or placement.
    pub kind: DeviceKind,
}

impl DeviceEntry {
    /// `2g.20gb`, or `full`.
    pub fn profile(&self) -> &str {
        match &self.kind {
            DeviceKind::Full => names::PROFILE_FULL,
            DeviceKind::Mig { profile, .. } => profile,
        }
    }
}
