//! Checkpoint: what the driver must remember across a crash, which is the devices of each claim and how far each
//! operation got.
//!
//! The order of writes makes every crash recoverable. Before a GPU instance is created, the driver makes sure that
//! its placement is free and records `creating`. So after a crash, an instance at exactly that placement is the
//! driver's own, whether or not create returned. An instance at any other placement, or one that existed before, is
//! foreign. Before anything is destroyed, the claim is recorded as `releasing`.
//!
//! Instances do not survive a reboot, so each record names its boot: after a reboot, an instance at the placement of
//! an own one is foreign.
//!
//! This module holds the data and its transitions, [`mod@file`] keeps it on disk, and [`store`] is the one thread
//! that changes it.

pub(crate) mod file;
pub(crate) mod store;
mod usage;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sluice_inventory::Placement;

use crate::gpus::ComputeInstance;
use crate::sharing::SharingStrategy;

/// Version of the format. It is raised only when an older driver would misread the file; new fields need no new
/// version, since unknown ones are ignored.
pub(crate) const VERSION: u32 = 1;

/// Content of the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Checkpoint {
    /// Value of [`VERSION`] in the driver that wrote the file.
    pub version: u32,
    /// Claims by UID.
    #[serde(default)]
    pub claims: BTreeMap<String, ClaimRecord>,
    /// Milliseconds for which slices were held, by profile, summed over claims that have ended.
    #[serde(default)]
    pub ended_slice_ms: BTreeMap<String, u64>,
}

impl Default for Checkpoint {
    fn default() -> Self {
        Self { version: VERSION, claims: BTreeMap::new(), ended_slice_ms: BTreeMap::new() }
    }
}

/// Phase of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Phase {
    /// Prepare has started and its caller has not been given any devices.
    Preparing,
    /// The caller of prepare was given the devices.
    Prepared,
    /// Unprepare, or undoing a prepare, has started: the devices are to be released.
    Releasing,
}

/// Record of a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClaimRecord {
    /// Namespace of the claim object.
    pub namespace: String,
    /// Name of the claim object.
    pub name: String,
    pub phase: Phase,
    /// Start of prepare, in milliseconds of the Unix clock.
    pub started_at_ms: u64,
    /// Devices of this driver.
    pub devices: Vec<DeviceRecord>,
}

/// Record of a device of a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeviceRecord {
    /// Names of the requests that the device satisfies.
    pub requests: Vec<String>,
    /// Name of the device in the ResourceSlice.
    pub device: String,
    /// UUID of the GPU; empty for a monitoring device.
    pub gpu_uuid: String,
    /// Minor number of the GPU.
    pub gpu_minor: u32,
    /// Profile: `2g.10gb`, `full` or `monitor`.
    pub profile: String,
    /// UUID of the GPU that the claim monitors; `None` for a device that only this claim uses. `gpu_uuid` is empty
    /// then, so that an older driver does not take the device for held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watches: Option<String>,
    /// How the device is shared.
    #[serde(default, skip_serializing_if = "SharingStrategy::is_exclusive")]
    pub sharing: SharingStrategy,
    /// MIG slice; `None` for a full GPU and for a monitoring device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<SliceRecord>,
}

/// Record of the MIG slice of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SliceRecord {
    /// Id of the GPU-instance profile.
    pub profile_id: u32,
    /// Placement of the slice.
    pub placement: Placement,
    /// State of its GPU instance.
    pub instance: Instance,
}

/// State of the GPU instance of a slice, as far as the driver created it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum Instance {
    /// The driver has created no instance.
    Absent,
    /// The driver was about to create the instance at a free placement.
    Creating {
        /// Boot in which that was.
        boot_id: String,
    },
    /// The driver has created the instance.
    Standing {
        /// Boot in which that was.
        boot_id: String,
        /// Id of the GPU instance.
        gpu_instance: u32,
        /// Compute instance that fills the GPU instance.
        compute: ComputeInstance,
    },
}

/// Change of the checkpoint.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// Adds a claim.
    Begin {
        /// UID of the claim.
        uid: String,
        /// Record of the claim.
        record: ClaimRecord,
    },
    /// Sets the state of a slice's instance.
    Instance {
        /// UID of the claim.
        uid: String,
        /// Name of the device.
        device: String,
        /// New state.
        instance: Instance,
    },
    /// Sets the phase of a claim.
    Phase {
        /// UID of the claim.
        uid: String,
        /// New phase.
        phase: Phase,
    },
    /// Removes a claim and adds up the time of its slices.
    End {
        /// UID of the claim.
        uid: String,
        /// End of the claim, in milliseconds of the Unix clock.
        at_ms: u64,
    },
}

/// Error: another claim holds a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "device {device} is still held by claim {namespace}/{name} (uid {uid}) as {held_device}; it is free when \
     that claim is unprepared"
)]
pub(crate) struct DeviceHeld {
    /// Requested device.
    pub device: String,
    /// Device of the other claim that overlaps it.
    pub held_device: String,
    /// Namespace of the other claim.
    pub namespace: String,
    /// Name of the other claim.
    pub name: String,
    /// UID of the other claim.
    pub uid: String,
}

impl Checkpoint {
    /// Applies one change. A change of an unknown claim or device has no effect.
    ///
    /// # Errors
    /// Returns [`DeviceHeld`] and changes nothing if a new claim has a device that another claim holds.
    pub(crate) fn apply(&mut self, change: Change) -> Result<(), DeviceHeld> {
        match change {
            Change::Begin { uid, record } => {
                self.check_free(&uid, &record.devices)?;
                self.claims.insert(uid, record);
            }
            Change::Instance { uid, device, instance } => {
                let record = self.claims.get_mut(&uid);
                let found = record.and_then(|r| r.devices.iter_mut().find(|d| d.device == device));
                if let Some(slice) = found.and_then(|device| device.slice.as_mut()) {
                    slice.instance = instance;
                }
            }
            Change::Phase { uid, phase } => {
                if let Some(record) = self.claims.get_mut(&uid) {
                    record.phase = phase;
                }
            }
            Change::End { uid, at_ms } => {
                if let Some(record) = self.claims.remove(&uid) {
                    for device in record.devices.iter().filter(|device| device.watches.is_none()) {
                        *self.ended_slice_ms.entry(device.profile.clone()).or_default() +=
                            at_ms.saturating_sub(record.started_at_ms);
                    }
                }
            }
        }
        Ok(())
    }

    /// Checks that no other claim holds any of the devices or an overlapping one.
    fn check_free(&self, uid: &str, devices: &[DeviceRecord]) -> Result<(), DeviceHeld> {
        for (holder, record) in self.claims.iter().filter(|(holder, _)| holder.as_str() != uid) {
            for held in &record.devices {
                if let Some(device) = devices.iter().find(|device| device.overlaps(held)) {
                    return Err(DeviceHeld {
                        device: device.device.clone(),
                        held_device: held.device.clone(),
                        namespace: record.namespace.clone(),
                        name: record.name.clone(),
                        uid: holder.clone(),
                    });
                }
            }
        }
        Ok(())
    }
}

impl DeviceRecord {
    /// Returns whether both use a common part of one GPU.
    fn overlaps(&self, other: &Self) -> bool {
        self.watches.is_none()
            && other.watches.is_none()
            && self.gpu_uuid == other.gpu_uuid
            && match (&self.slice, &other.slice) {
                (Some(a), Some(b)) => a.placement.overlaps(b.placement),
                _ => true,
            }
    }
}

#[cfg(test)]
pub(crate) mod tests;
