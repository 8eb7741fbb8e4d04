//! What stands on the GPUs, compared with what is remembered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::TryLockError;

use sluice_inventory::Gpu;

use super::DeviceState;
use super::decide::ours;
use crate::checkpoint::{Instance, Phase};
use crate::gpus::{GpuError, GpuInstance, Reason};

/// A device of a claim: UID of the claim and name of the device.
pub(crate) type ClaimDevice = (String, String);

/// Instances of one GPU.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Instances {
    /// Those that this driver has not made.
    pub foreign: Vec<GpuInstance>,
    /// Devices of prepared claims whose instance this driver has made in this boot, and that is gone.
    pub missing: BTreeSet<ClaimDevice>,
}

/// How one GPU was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Observation {
    /// It answers.
    Well {
        /// What it is now.
        gpu: Box<Gpu>,
        /// What stands on it; `None` where somebody was changing it.
        instances: Option<Instances>,
    },
    /// It does not answer.
    Failing(Reason),
}

/// The node's GPUs by UUID.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ObservedGpus {
    /// Every GPU that was found.
    pub gpus: BTreeMap<String, Observation>,
    /// Whether there may be others than these.
    pub is_incomplete: bool,
}

impl DeviceState {
    /// Looks at all GPUs. `anew` opens NVML again before.
    ///
    /// # Errors
    /// When there is no NVML.
    pub(crate) fn observe(&self, anew: bool) -> Result<ObservedGpus, GpuError> {
        self.gpus.refresh(anew)?;
        let discovered = self.gpus.discover()?;
        let mut observed = ObservedGpus { gpus: BTreeMap::new(), is_incomplete: discovered.is_incomplete };
        for gpu in discovered.gpus {
            let uuid = gpu.uuid.clone();
            let observation = match self.instances(&gpu) {
                Ok(instances) => Observation::Well { gpu: Box::new(gpu), instances },
                Err(error) if error.reason.needs_session() => return Err(error),
                Err(error) => Observation::Failing(error.reason),
            };
            observed.gpus.insert(uuid, observation);
        }
        let failing = discovered.failing.into_iter();
        observed.gpus.extend(failing.map(|(uuid, reason)| (uuid, Observation::Failing(reason))));
        Ok(observed)
    }

    /// What stands on a GPU. The checkpoint is read under the GPU's lock: before an instance is created, it
    /// says so, and while it is destroyed, it is still said. `None` where the lock is taken.
    fn instances(&self, gpu: &Gpu) -> Result<Option<Instances>, GpuError> {
        if gpu.mig_profiles.is_empty() {
            return Ok(Some(Instances::default()));
        }
        let lock = self.lock(&gpu.uuid);
        let _guard = match lock.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(None),
        };
        let standing = self.gpus.gpu_instances(&gpu.uuid)?;
        let checkpoint = self.checkpoints.checkpoint();
        let mut found = Instances { foreign: standing.clone(), missing: BTreeSet::new() };
        for (uid, record) in &checkpoint.claims {
            for device in record.devices.iter().filter(|device| device.gpu_uuid == gpu.uuid) {
                let Some(slice) = &device.slice else { continue };
                match ours(slice, &self.boot_id, &standing) {
                    Some(instance) => found.foreign.retain(|other| other.id != instance.id),
                    None if record.phase == Phase::Prepared && self.stood(&slice.instance) => {
                        found.missing.insert((uid.clone(), device.device.clone()));
                    }
                    None => {}
                }
            }
        }
        Ok(Some(found))
    }

    /// Whether the instance was made in this boot.
    fn stood(&self, instance: &Instance) -> bool {
        matches!(instance, Instance::Standing { boot_id, .. } if *boot_id == self.boot_id)
    }
}
