//! What the driver must remember over its own death: which claims hold which devices, and how far it
//! came with each.
//!
//! The order of writes makes every death recoverable. Before a GPU instance is created, the record says
//! `creating` and where, and it was seen that nothing stood there; so after a death, an instance that
//! stands exactly there is ours, whether or not create returned. An instance that stands anywhere else,
//! or was there before, is foreign. Before anything is destroyed, the claim says `releasing`.
//!
//! Instances do not outlive a boot, so each record carries the boot that it is of: what stands after a
//! reboot where ours stood is foreign.
//!
//! This module is data and its transitions; [`mod@file`] keeps it on disk, [`store`] is the one thread that
//! changes it.

pub(crate) mod file;
pub(crate) mod store;
mod usage;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sluice_inventory::Placement;

use crate::gpus::ComputeInstance;
use crate::sharing::SharingStrategy;

/// Version of the format. It is raised only when an older driver would misread the file; fields may be
/// added without, since unknown ones are ignored.
pub(crate) const VERSION: u32 = 1;

/// Everything that is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Checkpoint {
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// Claims by UID.
    #[serde(default)]
    pub claims: BTreeMap<String, ClaimRecord>,
    /// Milliseconds for which slices of a profile were held, summed over claims that have ended.
    #[serde(default)]
    pub ended_slice_ms: BTreeMap<String, u64>,
}

impl Default for Checkpoint {
    fn default() -> Self {
        Self { version: VERSION, claims: BTreeMap::new(), ended_slice_ms: BTreeMap::new() }
    }
}

/// How far a claim is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Phase {
    /// Prepare has begun and has not been answered: nobody was told of its devices.
    Preparing,
    /// Its devices were handed out.
    Prepared,
    /// Unprepare (or an undone prepare) has begun: its devices are to go.
    Releasing,
}

/// One claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClaimRecord {
    /// Namespace of the claim object.
    pub namespace: String,
    /// Name of the claim object.
    pub name: String,
    /// How far it is.
    pub phase: Phase,
    /// When prepare began, milliseconds of the Unix clock.
    pub started_at_ms: u64,
    /// Its devices of this driver.
    pub devices: Vec<DeviceRecord>,
}

/// One device of a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeviceRecord {
    /// Requests of the claim that it satisfies.
    pub requests: Vec<String>,
    /// Name in the ResourceSlice.
    pub device: String,
    /// UUID of its GPU.
    pub gpu_uuid: String,
    /// Minor number of its GPU.
    pub gpu_minor: u32,
    /// `2g.10gb`, or `full`.
    pub profile: String,
    /// UUID of the GPU that the claim watches, beside those who use it; none for a device that is its own. The
    /// device has no `gpu_uuid` then, so that a driver of before takes it for nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watches: Option<String>,
    /// How the device is shared.
    #[serde(default, skip_serializing_if = "SharingStrategy::is_exclusive")]
    pub sharing: SharingStrategy,
    /// The MIG slice; none for a full GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<SliceRecord>,
}

/// A MIG slice of a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SliceRecord {
    /// GI profile id.
    pub profile_id: u32,
    /// Where it lies.
    pub placement: Placement,
    /// Whether it stands.
    pub instance: Instance,
}

/// Whether the instance of a slice stands, as far as we did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum Instance {
    /// We have none.
    Absent,
    /// Create was about to be called, at a place that was seen to be empty.
    Creating {
        /// Boot in which that was.
        boot_id: String,
    },
    /// We have made it.
    Standing {
        /// Boot in which that was.
        boot_id: String,
        /// Id of the GPU instance.
        gpu_instance: u32,
        /// The compute instance that fills it.
        compute: ComputeInstance,
    },
}

/// One change of the checkpoint.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// A claim that is new.
    Begin {
        /// UID.
        uid: String,
        /// Its record.
        record: ClaimRecord,
    },
    /// A slice's instance.
    Instance {
        /// UID of the claim.
        uid: String,
        /// Device name.
        device: String,
        /// What is true from now on.
        instance: Instance,
    },
    /// A claim's phase.
    Phase {
        /// UID.
        uid: String,
        /// The new phase.
        phase: Phase,
    },
    /// A claim that is over; its slices' time is added up.
    End {
        /// UID.
        uid: String,
        /// When it ended, milliseconds of the Unix clock.
        at_ms: u64,
    },
}

/// A device that another claim holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "device {device} is still held by claim {namespace}/{name} (uid {uid}) as {held_device}; it is free when \
     that claim is unprepared"
)]
pub(crate) struct DeviceHeld {
    /// The device that was asked for.
    pub device: String,
    /// The device that is in its way.
    pub held_device: String,
    /// Namespace of the holder.
    pub namespace: String,
    /// Name of the holder.
    pub name: String,
    /// UID of the holder.
    pub uid: String,
}

impl Checkpoint {
    /// Applies one change. Changes to a claim or device that there is not are without effect.
    ///
    /// # Errors
    /// [`DeviceHeld`] for a claim that begins with a device which another claim has; nothing is changed then.
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

    /// Whether no other claim holds any of these devices or a part of one.
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
    /// Whether both take a common part of one GPU.
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
