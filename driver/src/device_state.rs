//! State of the node's devices: creates and destroys the MIG instances of claims (prepare, release, recover). All
//! calls block.
//!
//! The order of the steps makes every crash recoverable (see [`crate::checkpoint`]). `decide` tells the driver's own
//! instances from foreign ones. Listing and creating instances of a GPU happen under a lock of that GPU, so that a
//! free placement is still free when the instance is created. GPUs do not wait for each other.

mod decide;
mod observe;
mod prepare;
mod release;

use std::sync::{Arc, Mutex, PoisonError};

use dashmap::DashMap;

use crate::cdi::{CdiDir, CdiError};
use crate::checkpoint::store::{CheckpointError, CheckpointStore};
use crate::gpus::{GpuError, GpuInstance, Gpus};
#[cfg(test)]
pub(crate) use observe::Instances;
pub(crate) use observe::{ClaimDevice, Observation, ObservedGpus};
pub(crate) use release::Released;

/// Clock that returns milliseconds of the Unix epoch.
pub(crate) type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Reason why the devices of a claim could not be prepared or released. Every call may be repeated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeviceStateError {
    /// An NVML call failed.
    #[error("device {device}: {source}")]
    Gpu {
        /// Name of the device.
        device: String,
        /// Failed call.
        source: GpuError,
    },
    /// A foreign instance occupies the placement.
    #[error(
        "device {device}: GPU instance {} at memory slices {}..{} was not made by this driver and is left \
         alone; the device can be prepared when it is gone",
        instance.id, instance.placement.start, instance.placement.slices().end
    )]
    Foreign {
        /// Name of the device.
        device: String,
        /// Foreign instance.
        instance: GpuInstance,
    },
    /// The checkpoint could not be changed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The CDI file could not be written or removed.
    #[error(transparent)]
    Cdi(#[from] CdiError),
    /// Prepare failed, and undoing it failed too.
    #[error("{cause}; what was made could not be undone yet ({undo}) and is undone later")]
    NotUndone {
        /// Error of prepare.
        cause: Box<DeviceStateError>,
        /// Error of undoing it.
        undo: Box<DeviceStateError>,
    },
    /// The record of the claim was removed during the call.
    #[error("claim {0} was released meanwhile; try again")]
    Vanished(String),
}

/// Devices of this node.
pub(crate) struct DeviceState {
    gpus: Arc<dyn Gpus>,
    checkpoints: CheckpointStore,
    cdi: CdiDir,
    /// Identity of this boot. MIG instances do not survive a reboot.
    boot_id: String,
    now_ms: Clock,
    /// Lock of each GPU that was ever used. The keys are UUIDs of the node's own GPUs only, so the map stays small.
    locks: DashMap<String, Arc<Mutex<()>>>,
}

impl DeviceStateError {
    /// Returns whether the call may succeed at once when NVML is reopened.
    pub(crate) fn needs_session(&self) -> bool {
        match self {
            Self::Gpu { source, .. } => source.reason.needs_session(),
            Self::NotUndone { cause, .. } => cause.needs_session(),
            _ => false,
        }
    }
}

impl DeviceState {
    pub(crate) fn new(
        gpus: Arc<dyn Gpus>,
        checkpoints: CheckpointStore,
        cdi: CdiDir,
        boot_id: String,
        now_ms: Clock,
    ) -> Self {
        Self { gpus, checkpoints, cdi, boot_id, now_ms, locks: DashMap::new() }
    }

    /// Opens NVML if it is not open, or reopens it if NVIDIA's driver was replaced.
    ///
    /// # Errors
    /// Returns what is missing.
    pub(crate) fn refresh(&self) -> Result<(), GpuError> {
        self.gpus.refresh(false)
    }

    /// Returns the store of the claims and their devices.
    pub(crate) fn checkpoints(&self) -> &CheckpointStore {
        &self.checkpoints
    }

    /// Runs `act` while no other thread lists or changes instances of the GPU.
    fn exclusively<T>(&self, gpu_uuid: &str, act: impl FnOnce() -> T) -> T {
        let lock = self.lock(gpu_uuid);
        // The lock guards no data, so a panic under it leaves nothing half-changed.
        let _guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
        act()
    }

    fn lock(&self, gpu_uuid: &str) -> Arc<Mutex<()>> {
        Arc::clone(&self.locks.entry(gpu_uuid.to_owned()).or_default())
    }
}

fn on_device(device: &str) -> impl Fn(GpuError) -> DeviceStateError + '_ {
    move |source| DeviceStateError::Gpu { device: device.to_owned(), source }
}

#[cfg(test)]
mod tests;
