//! Prepare: transactional and idempotent.

use super::decide::{Step, step};
use super::{DeviceState, DeviceStateError, on_device};
use crate::cdi::Watched;
use crate::checkpoint::{Change, ClaimRecord, DeviceRecord, Instance, Phase, SliceRecord};
use crate::gpus::{ComputeInstance, GpuError};

impl DeviceState {
    /// Makes a claim's devices stand and writes its CDI file; answers the devices as they are now.
    ///
    /// `wanted` is what the claim was allocated, with every instance absent. A claim that is prepared
    /// already is checked and its CDI file written again, because both may have gone with a reboot. When
    /// anything fails, what this call made is undone.
    ///
    /// # Errors
    /// Any of [`DeviceStateError`]; the call may be repeated.
    pub(crate) fn prepare(
        &self,
        uid: &str,
        namespace: &str,
        name: &str,
        wanted: Vec<DeviceRecord>,
    ) -> Result<Vec<DeviceRecord>, DeviceStateError> {
        if self.record(uid).is_some_and(|record| !same_devices(&record.devices, &wanted)) {
            // Allocated anew under the same UID: the old devices are nobody's any more.
            self.unprepare(uid)?;
        }
        match self.record(uid) {
            Some(record) if record.phase == Phase::Prepared => {}
            // Half undone: go forward again from what stands.
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

    /// From a record in phase `Preparing` or `Prepared` to one in `Prepared` whose slices stand.
    fn complete(&self, uid: &str) -> Result<Vec<DeviceRecord>, DeviceStateError> {
        let record = self.record(uid).ok_or_else(|| DeviceStateError::Vanished(uid.to_owned()))?;
        let mut devices = record.devices.clone();
        let mut changes = Vec::new();
        for device in devices.iter_mut().filter(|device| device.watches.is_none()) {
            let Some(slice) = &mut device.slice else {
                // What cannot be used must not be paid for: it may be lost, or have been put into MIG mode.
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

    /// What stands on the GPUs that a claim watches. A GPU that does not answer is watched all the same.
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
                tracing::warn!(%error, "A GPU that a claim watches does not tell its instances.");
                Vec::new()
            });
            (gpu, instances)
        });
        found.collect()
    }

    /// Makes one slice's GPU instance and compute instance stand.
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

    /// Creates the GPU instance; that it is about to be created is on disk before.
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
                // A refused create made nothing; whatever may stand there now is somebody else's.
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

    /// After a failed prepare: a claim that nobody was told of goes as a whole; one that was handed out
    /// before keeps its record, without the instances that this call has begun.
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
