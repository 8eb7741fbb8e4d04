//! Observation of the GPUs: existing MIG instances, compared with the checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::TryLockError;

use sluice_inventory::Gpu;

use super::DeviceState;
use super::decide::ours;
use crate::checkpoint::{Instance, Phase};
use crate::gpus::{GpuError, GpuInstance, Reason};

/// Device of a claim: UID of the claim and name of the device.
pub(crate) type ClaimDevice = (String, String);

/// MIG instances of one GPU.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Instances {
    /// Instances that this driver has not created.
    pub foreign: Vec<GpuInstance>,
    /// Devices of prepared claims whose instance this driver created in this boot, and that does not exist any more.
    pub missing: BTreeSet<ClaimDevice>,
}

/// Observation of one GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Observation {
    /// The GPU responds.
    Well {
        /// Description of the GPU.
        gpu: Box<Gpu>,
        /// Its MIG instances; `None` if an operation was changing them.
        instances: Option<Instances>,
    },
    /// The GPU does not respond.
    Failing(Reason),
}

/// Observation of the node's GPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ObservedGpus {
    /// GPUs that were found, by UUID.
    pub gpus: BTreeMap<String, Observation>,
    /// Whether the node may have more GPUs than these.
    pub is_incomplete: bool,
}

impl DeviceState {
    /// Observes all GPUs. `anew` reopens NVML before.
    ///
    /// # Errors
    /// Fails if NVML cannot be opened.
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

    /// Compares the instances of a GPU with the checkpoint; `None` if the lock of the GPU is taken. The checkpoint is
    /// read under that lock, because it records an instance before it is created and until it is destroyed.
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

    /// Returns whether the instance was created in this boot.
    fn stood(&self, instance: &Instance) -> bool {
        matches!(instance, Instance::Standing { boot_id, .. } if *boot_id == self.boot_id)
    }
}
