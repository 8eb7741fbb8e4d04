//! Unprepare of a claim, and recovery at a start.

use super::decide::ours;
use super::{DeviceState, DeviceStateError, on_device};
use crate::checkpoint::{Change, ClaimRecord, DeviceRecord, Instance, Phase};
use crate::gpus::GpuError;

/// Result of a release.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Released {
    /// Devices whose GPU is gone, and why. Their instances went with it.
    pub without_gpu: Vec<(String, GpuError)>,
}

impl DeviceState {
    /// Destroys the instances of a claim and removes its record. An unknown claim is a success.
    ///
    /// # Errors
    /// Fails if an instance cannot be destroyed, for instance because a process still uses it. The claim stays
    /// `releasing`, and the next call continues.
    pub(crate) fn unprepare(&self, uid: &str) -> Result<Released, DeviceStateError> {
        let checkpoint = self.checkpoints.checkpoint();
        let mut released = Released::default();
        if let Some(record) = checkpoint.claims.get(uid) {
            if record.phase != Phase::Releasing {
                self.checkpoints
                    .commit(vec![Change::Phase { uid: uid.to_owned(), phase: Phase::Releasing }])?;
            }
            for device in &record.devices {
                device.sharing.stop();
                match self.destroy(device) {
                    // No instance outlives its GPU, so nothing is left to destroy.
                    Err(DeviceStateError::Gpu { device, source }) if source.reason.is_gone() => {
                        tracing::warn!(uid, device, error = %source, "Released a device whose GPU is gone.");
                        released.without_gpu.push((device, source));
                    }
                    result => result?,
                }
            }
        }
        self.cdi.remove(uid)?;
        if checkpoint.claims.contains_key(uid) {
            self.checkpoints.commit(vec![Change::End { uid: uid.to_owned(), at_ms: (self.now_ms)() }])?;
        }
        Ok(released)
    }

    /// Recovers before anything is served: undoes every prepare that was not answered and completes every release
    /// that was started. The reconciler retries what fails here.
    pub(crate) fn recover(&self) {
        for (uid, record) in &self.checkpoints.checkpoint().claims {
            let (what, result) = match record.phase {
                Phase::Prepared => {
                    ("restore", self.drop_unfinished(uid, record).and_then(|()| self.restore_cdi(uid)))
                }
                Phase::Preparing => ("undo", self.unprepare(uid).map(drop)),
                Phase::Releasing => ("go on releasing", self.unprepare(uid).map(drop)),
            };
            let claim = format!("{}/{}", record.namespace, record.name);
            match result {
                Ok(()) if record.phase == Phase::Prepared => {}
                Ok(()) => {
                    tracing::info!(claim, uid, "Undid an operation that the last run had not finished.")
                }
                Err(error) => {
                    tracing::warn!(claim, uid, %error, "Failed to {what} a claim of the last run, retrying.");
                }
            }
        }
    }

    /// Restores the CDI file of a prepared claim if it is missing or out of date: other programs may clean its
    /// directory, and the kernel's numbers change when modules are loaded again. Claims of an earlier boot are left
    /// to their next prepare.
    ///
    /// # Errors
    /// Fails if the file system does.
    pub(crate) fn restore_cdi(&self, uid: &str) -> Result<(), DeviceStateError> {
        let checkpoint = self.checkpoints.checkpoint();
        let Some(record) = checkpoint.claims.get(uid).filter(|record| record.phase == Phase::Prepared) else {
            return Ok(());
        };
        let stands = |device: &DeviceRecord| match device.slice.as_ref().map(|slice| &slice.instance) {
            Some(Instance::Standing { boot_id, .. }) => *boot_id == self.boot_id,
            Some(Instance::Absent | Instance::Creating { .. }) => false,
            None => true,
        };
        if record.devices.iter().all(stands)
            && self.cdi.write(uid, &record.devices, &self.watched(&record.devices))?
        {
            tracing::info!(uid, "Restored the CDI file of a claim.");
        }
        Ok(())
    }

    /// Destroys instances of a claim whose creation was started and not finished.
    pub(super) fn drop_unfinished(&self, uid: &str, record: &ClaimRecord) -> Result<(), DeviceStateError> {
        for device in &record.devices {
            let Some(slice) = &device.slice else { continue };
            if matches!(slice.instance, Instance::Creating { .. }) {
                self.destroy(device)?;
                self.checkpoints.commit(vec![Change::Instance {
                    uid: uid.to_owned(),
                    device: device.device.clone(),
                    instance: Instance::Absent,
                }])?;
            }
        }
        Ok(())
    }

    /// Destroys the instance of a device if it exists and is the driver's own, compute instances first.
    fn destroy(&self, device: &DeviceRecord) -> Result<(), DeviceStateError> {
        let Some(slice) = &device.slice else { return Ok(()) };
        let boot_is_ours = match &slice.instance {
            Instance::Absent => false,
            Instance::Creating { boot_id } | Instance::Standing { boot_id, .. } => *boot_id == self.boot_id,
        };
        if !boot_is_ours {
            // The instance is gone with its boot, and its GPU may be gone as well, so NVML is not called.
            return Ok(());
        }
        let gpu = &device.gpu_uuid;
        let failed = on_device(&device.device);
        self.exclusively(gpu, || {
            let standing = self.gpus.gpu_instances(gpu).map_err(&failed)?;
            let Some(instance) = ours(slice, &self.boot_id, &standing) else { return Ok(()) };
            for compute in self.gpus.compute_instances(gpu, instance.id).map_err(&failed)? {
                self.gpus.destroy_compute_instance(gpu, instance.id, compute.id).map_err(&failed)?;
            }
            self.gpus.destroy_gpu_instance(gpu, instance.id).map_err(&failed)
        })
    }
}
