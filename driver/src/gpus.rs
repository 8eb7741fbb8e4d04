//! What the driver asks of GPUs, as a trait: everything above it works on plain data, and all of NVML
//! stands behind it in [`crate::nvml`].
//!
//! All calls block, some of them for seconds (destroying a GPU instance on real hardware takes about
//! one), so they belong on blocking threads. GPUs are named by UUID: index and minor number may change
//! over a reboot.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sluice_inventory::{Gpu, Placement};

#[cfg(test)]
pub(crate) mod fake;

/// A GPU instance as it stands on a GPU, whoever made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuInstance {
    /// Its id on the GPU. Ids follow from the placement, so another instance may bear it later.
    pub id: u32,
    /// GI profile id.
    pub profile_id: u32,
    /// Where it lies.
    pub placement: Placement,
}

/// A compute instance inside a GPU instance: what CUDA sees as a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComputeInstance {
    /// Its id inside the GPU instance.
    pub id: u32,
    /// `MIG-…`. Neither unique over time nor stable: it may repeat after re-creation.
    pub uuid: String,
}

/// A critical error that a GPU reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XidEvent {
    /// The GPU; `None` where the event names none that is known.
    pub gpu_uuid: Option<String>,
    /// XID, as NVIDIA's catalogue numbers them.
    pub xid: u64,
    /// GPU instance that it happened in; `None` concerns the whole GPU.
    pub gpu_instance: Option<u32>,
}

/// Why a call failed, as far as callers tell apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// A process, or an instance inside, still uses it (NVML 19).
    #[error("it is still in use by a process or by an instance inside it")]
    InUse,
    /// The place is taken, or the GPU has no room for it (NVML 23).
    #[error("insufficient resources: another instance takes its place")]
    Occupied,
    /// No such object (NVML 6).
    #[error("not found")]
    NotFound,
    /// Not possible on this GPU or in its present mode (NVML 3).
    #[error("not supported; is MIG mode on?")]
    NotSupported,
    /// The process may not do that (NVML 4).
    #[error("no permission; MIG instances are made by root or with CAP_SYS_ADMIN")]
    NoPermission,
    /// The GPU fell off the bus (NVML 15).
    #[error("the GPU is lost; it needs a reset or a reboot")]
    Lost,
    /// The library lacks the function (NVML 13): it is too old.
    #[error("libnvidia-ml.so.1 has no such function; a newer NVIDIA driver is needed")]
    FunctionMissing,
    /// An argument was refused (NVML 2).
    #[error("invalid argument")]
    InvalidArgument,
    /// The instance was made, but could not be described.
    #[error("the instance was made, but then: {0}")]
    AfterCreate(Box<Reason>),
    /// Anything else.
    #[error("NVML return code {0}")]
    Other(u32),
}

impl Reason {
    /// Whether the call certainly changed nothing: it was refused before it began.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Occupied
            | Self::NotSupported
            | Self::NoPermission
            | Self::FunctionMissing
            | Self::InvalidArgument => true,
            Self::InUse | Self::NotFound | Self::Lost | Self::AfterCreate(_) | Self::Other(_) => false,
        }
    }
}

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call} on {gpu}: {reason}")]
pub struct GpuError {
    /// NVML's name of the call.
    pub call: &'static str,
    /// UUID of the GPU, or `this node`.
    pub gpu: String,
    /// Why.
    pub reason: Reason,
}

/// GPUs of this node and the instances on them.
pub trait Gpus: Send + Sync + 'static {
    /// All GPUs with their MIG profiles and placements.
    ///
    /// # Errors
    /// When the node's GPUs cannot be told; a GPU that is lost is left out with a warning.
    fn discover(&self) -> Result<Vec<Gpu>, GpuError>;

    /// All GPU instances that stand on a GPU, ours and foreign ones. None where MIG mode is off.
    ///
    /// # Errors
    /// When the GPU is not known or does not answer.
    fn gpu_instances(&self, gpu_uuid: &str) -> Result<Vec<GpuInstance>, GpuError>;

    /// Creates a GPU instance exactly at `placement`.
    ///
    /// # Errors
    /// [`Reason::Occupied`] when something stands there.
    fn create_gpu_instance(
        &self,
        gpu_uuid: &str,
        profile_id: u32,
        placement: Placement,
    ) -> Result<GpuInstance, GpuError>;

    /// Destroys an empty GPU instance.
    ///
    /// # Errors
    /// [`Reason::InUse`] while compute instances or processes are in it.
    fn destroy_gpu_instance(&self, gpu_uuid: &str, gpu_instance: u32) -> Result<(), GpuError>;

    /// Compute instances inside a GPU instance.
    ///
    /// # Errors
    /// When there is no such GPU instance.
    fn compute_instances(&self, gpu_uuid: &str, gpu_instance: u32) -> Result<Vec<ComputeInstance>, GpuError>;

    /// Creates the compute instance that takes a whole GPU instance.
    ///
    /// # Errors
    /// When the GPU instance has no profile of its own size, or is not empty.
    fn create_compute_instance(&self, gpu_uuid: &str, gpu_instance: u32)
    -> Result<ComputeInstance, GpuError>;

    /// Destroys a compute instance.
    ///
    /// # Errors
    /// [`Reason::InUse`] while processes use it.
    fn destroy_compute_instance(
        &self,
        gpu_uuid: &str,
        gpu_instance: u32,
        compute_instance: u32,
    ) -> Result<(), GpuError>;

    /// Starts listening for critical errors on all GPUs that can report them.
    ///
    /// # Errors
    /// When the library has no events.
    fn watch_xids(&self) -> Result<Box<dyn XidWatch>, GpuError>;
}

/// A subscription to critical errors; lives on a thread of its own.
pub trait XidWatch: Send {
    /// The next error; `None` when none came within `timeout`.
    ///
    /// # Errors
    /// When waiting itself failed.
    fn next(&mut self, timeout: Duration) -> Result<Option<XidEvent>, GpuError>;
}
