//! Prepare of a claim: transactional and idempotent.

use super::decide::{Step, step};
use super::{DeviceState, DeviceStateError, on_device};
use crate::cdi::Watched;
use crate::checkpoint::{Change, ClaimRecord, DeviceRecord, Instance, Phase, SliceRecord};
use crate::gpus::{ComputeInstance, GpuError};

impl DeviceState {
    /// Creates the devices of a claim, writes its CDI file, and returns the devices as they are now.
    ///
    /// `wanted` are the allocated devices, with every instance absent. The devices and the CDI file of a prepared
    /// claim are checked and restored, because a reboot may have removed both. On any error, everything that this
    /// call created is undone.
    ///
    /// # Errors
    /// Returns a [`DeviceStateError`]; the call may be repeated.
    pub(crate) fn prepare(
        &self,
        uid: &str,
        namespace: &str,
        name: &str,
        wanted: Vec<DeviceRecord>,
    ) -> Result<Vec<DeviceRecord>, DeviceStateError> {
        if self.record(uid).is_some_and(|record| !same_devices(&record.devices, &wanted)) {
            // The claim was allocated again under the same UID, and no longer has the old devices.
            self.unprepare(uid)?;
        }
        match self.record(uid) {
            Some(record) if record.phase == Phase::Prepared => {}
            // A release was interrupted: prepare continues with what still exists.
            Some(_) => {
                self.checkpoints
                    .commit(vec![Change::Phase { uid: uid.to_owned(), phase: Phase::Preparing }])?;
            }
            None => {
                let record = ClaimRecord {
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                    phase: Phase::Preparing,
                    started_at_ms: (self.now_ms)(),
                    devices: wanted,
                };
                self.checkpoints.commit(vec![Change::Begin { uid: uid.to_owned(), record }])?;
            }
        }
        self.complete(uid).map_err(|cause| match self.undo(uid) {
            Ok(()) => cause,
            Err(undo) => DeviceStateError::NotUndone { cause: Box::new(cause), undo: Box::new(undo) },
        })
    }

    fn record(&self, uid: &str) -> Option<ClaimRecord> {
        self.checkpoints.checkpoint().claims.get(uid).cloned()
    }

    /// Completes a record in phase `Preparing` or `Prepared`: its slices exist, and its phase becomes `Prepared`.
    fn complete(&self, uid: &str) -> Result<Vec<DeviceRecord>, DeviceStateError> {
        let record = self.record(uid).ok_or_else(|| DeviceStateError::Vanished(uid.to_owned()))?;
        let mut devices = record.devices.clone();
        let mut changes = Vec::new();
        for device in devices.iter_mut().filter(|device| device.watches.is_none()) {
            let Some(slice) = &mut device.slice else {
                // A GPU that is lost or in MIG mode cannot be used, and its claim must fail.
                self.gpus.check_whole(&device.gpu_uuid).map_err(on_device(&device.device))?;
                continue;
            };
            let instance = self.ensure(uid, &device.device, &device.gpu_uuid, slice)?;
            if instance != slice.instance {
                slice.instance = instance.clone();
                changes.push(Change::Instance {
                    uid: uid.to_owned(),
                    device: device.device.clone(),
                    instance,
                });
            }
        }
        devices.iter().for_each(|device| device.sharing.start());
        self.cdi.write(uid, &devices, &self.watched(&devices))?;
        if record.phase != Phase::Prepared {
            changes.push(Change::Phase { uid: uid.to_owned(), phase: Phase::Prepared });
        }
        if !changes.is_empty() {
            self.checkpoints.commit(changes)?;
        }
        Ok(devices)
    }

    /// Returns the instances on the GPUs that a claim monitors. A GPU that does not respond is monitored as well,
    /// without instances.
    pub(super) fn watched(&self, devices: &[DeviceRecord]) -> Watched {
        let instances = |gpu: &str| -> Result<Vec<(u32, u32)>, GpuError> {
            let mut all = Vec::new();
            for instance in self.gpus.gpu_instances(gpu)? {
                let computes = self.gpus.compute_instances(gpu, instance.id)?;
                all.extend(computes.into_iter().map(|compute| (instance.id, compute.id)));
            }
            Ok(all)
        };
        let watched = devices.iter().filter_map(|device| device.watches.clone());
        let found = watched.map(|gpu| {
            let instances = instances(&gpu).unwrap_or_else(|error| {
                tracing::warn!(%error, "Failed to list the instances of a GPU that a claim monitors.");
                Vec::new()
            });
            (gpu, instances)
        });
        found.collect()
    }

    /// Ensures that the GPU instance and the compute instance of a slice exist.
    fn ensure(
        &self,
        uid: &str,
        device: &str,
        gpu_uuid: &str,
        slice: &SliceRecord,
    ) -> Result<Instance, DeviceStateError> {
        self.exclusively(gpu_uuid, || {
            let standing = self.gpus.gpu_instances(gpu_uuid).map_err(on_device(device))?;
            let gpu_instance = match step(slice, &self.boot_id, &standing) {
                Step::Use(instance) => instance.id,
                Step::Blocked(instance) => {
                    return Err(DeviceStateError::Foreign { device: device.to_owned(), instance });
                }
                Step::Create => self.create(uid, device, gpu_uuid, slice)?,
            };
            let compute = self.ensure_compute(gpu_uuid, gpu_instance).map_err(on_device(device))?;
            Ok(Instance::Standing { boot_id: self.boot_id.clone(), gpu_instance, compute })
        })
    }

    /// Creates the GPU instance. Before that, the checkpoint records that it is about to be created.
    fn create(
        &self,
        uid: &str,
        device: &str,
        gpu_uuid: &str,
        slice: &SliceRecord,
    ) -> Result<u32, DeviceStateError> {
        let remember = |instance| {
            let change = Change::Instance { uid: uid.to_owned(), device: device.to_owned(), instance };
            self.checkpoints.commit(vec![change])
        };
        remember(Instance::Creating { boot_id: self.boot_id.clone() })?;
        match self.gpus.create_gpu_instance(gpu_uuid, slice.profile_id, slice.placement) {
            Ok(instance) => Ok(instance.id),
            Err(error) => {
                // A refused create made nothing: whatever exists at the placement now is foreign.
                if error.reason.is_refusal() {
                    remember(Instance::Absent)?;
                }
                Err(on_device(device)(error))
            }
        }
    }

    fn ensure_compute(&self, gpu_uuid: &str, gpu_instance: u32) -> Result<ComputeInstance, GpuError> {
        match self.gpus.compute_instances(gpu_uuid, gpu_instance)?.into_iter().next() {
            Some(compute) => Ok(compute),
            None => self.gpus.create_compute_instance(gpu_uuid, gpu_instance),
        }
    }

    /// Undoes a failed prepare. A claim whose devices were never returned is released completely; one that was
    /// prepared before keeps its record, without the instances that this call started to create.
    fn undo(&self, uid: &str) -> Result<(), DeviceStateError> {
        match self.record(uid) {
            Some(record) if record.phase == Phase::Prepared => self.drop_unfinished(uid, &record),
            Some(_) => self.unprepare(uid).map(drop),
            None => Ok(()),
        }
    }
}

fn same_devices(a: &[DeviceRecord], b: &[DeviceRecord]) -> bool {
    let key = |device: &DeviceRecord| {
        (
            device.device.clone(),
            device.gpu_uuid.clone(),
            device.slice.as_ref().map(|slice| (slice.profile_id, slice.placement)),
        )
    };
    a.iter().map(key).eq(b.iter().map(key))
}
