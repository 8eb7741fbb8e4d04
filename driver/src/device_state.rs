//! Making slices and taking them back: prepare, release, recover. All of it blocks.
//!
//! The order of steps is the whole point (see [`crate::checkpoint`]); what is ours is decided in
//! `decide`. Creating and listing on one GPU happen under that GPU's lock, so that "nothing stands there"
//! is still true when create is called; GPUs do not wait for each other.

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

/// Milliseconds of the Unix clock, given from outside.
pub(crate) type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Why a claim's slices could not be made or taken back. Every one of them may be tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeviceStateError {
    /// NVML refused.
    #[error("device {device}: {source}")]
    Gpu {
        /// Device name.
        device: String,
        /// The call.
        source: GpuError,
    },
    /// An instance that is not the driver's stands there.
    #[error(
        "device {device}: GPU instance {} at memory slices {}..{} was not made by this driver and is left \
         alone; the device can be prepared when it is gone",
        instance.id, instance.placement.start, instance.placement.slices().end
    )]
    Foreign {
        /// Device name.
        device: String,
        /// What stands in its place.
        instance: GpuInstance,
    },
    /// The checkpoint could not be changed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The CDI file could not be written or removed.
    #[error(transparent)]
    Cdi(#[from] CdiError),
    /// Prepare failed, and so did undoing it.
    #[error("{cause}; what was made could not be undone yet ({undo}) and is undone later")]
    NotUndone {
        /// Why prepare failed.
        cause: Box<DeviceStateError>,
        /// Why undoing failed.
        undo: Box<DeviceStateError>,
    },
    /// The claim has no record although it was just made.
    #[error("claim {0} was released meanwhile; try again")]
    Vanished(String),
}

/// Slices of this node's GPUs.
pub(crate) struct DeviceState {
    gpus: Arc<dyn Gpus>,
    checkpoints: CheckpointStore,
    cdi: CdiDir,
    /// Identity of this boot: no instance outlives it.
    boot_id: String,
    now_ms: Clock,
    /// One for each GPU that was ever asked for; nobody takes GPUs' UUIDs from outside.
    locks: DashMap<String, Arc<Mutex<()>>>,
}

impl DeviceStateError {
    /// Whether it may succeed at once when NVML is opened again.
    pub(crate) fn needs_session(&self) -> bool {
        match self {
            Self::Gpu { source, .. } => source.reason.needs_session(),
            Self::NotUndone { cause, .. } => cause.needs_session(),
            _ => false,
        }
    }
}

impl DeviceState {
    /// Works on these GPUs.
    pub(crate) fn new(
        gpus: Arc<dyn Gpus>,
        checkpoints: CheckpointStore,
        cdi: CdiDir,
        boot_id: String,
        now_ms: Clock,
    ) -> Self {
        Self { gpus, checkpoints, cdi, boot_id, now_ms, locks: DashMap::new() }
    }

    /// Opens NVML where it is not open, or anew where NVIDIA's driver changed under it.
    ///
    /// # Errors
    /// What is missing.
    pub(crate) fn refresh(&self) -> Result<(), GpuError> {
        self.gpus.refresh(false)
    }

    /// Where claims and their slices are remembered.
    pub(crate) fn checkpoints(&self) -> &CheckpointStore {
        &self.checkpoints
    }

    /// Runs `act` as the only one who lists and changes instances of a GPU.
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
