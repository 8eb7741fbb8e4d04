//! What the driver asks of GPUs, as a trait: everything above it works on plain data, and all of NVML
//! stands behind it in [`crate::nvml`].
//!
//! All calls block, some of them for seconds (destroying a GPU instance on real hardware takes about
//! one), so they belong on blocking threads. GPUs are named by UUID: index and minor number may change
//! over a reboot.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sluice_inventory::{Gpu, Placement};

#[cfg(test)]
pub(crate) mod fake;

/// A GPU instance as it stands on a GPU, whoever made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GpuInstance {
    /// Its id on the GPU. Ids follow from the placement, so another instance may bear it later.
    pub id: u32,
    /// GI profile id.
    pub profile_id: u32,
    /// Where it lies.
    pub placement: Placement,
}

/// A compute instance inside a GPU instance: what CUDA sees as a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ComputeInstance {
    /// Its id inside the GPU instance.
    pub id: u32,
    /// `MIG-…`. Neither unique over time nor stable: it may repeat after re-creation.
    pub uuid: String,
}

/// A critical error that a GPU reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct XidEvent {
    /// The GPU; `None` where the event names none that is known.
    pub gpu_uuid: Option<String>,
    /// XID, as NVIDIA's catalogue numbers them.
    pub xid: u64,
    /// GPU instance that it happened in; `None` concerns the whole GPU.
    pub gpu_instance: Option<u32>,
}

/// Why a call failed, as far as callers tell apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Reason {
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
    /// The GPU answers nothing until it is reset (NVML 16).
    #[error("the GPU requires a reset")]
    ResetRequired,
    /// Every GPU of the node answered, and it is not among them.
    #[error("this node has no such GPU any more")]
    Absent,
    /// The GPU cannot be used as a whole.
    #[error("MIG mode is on, so the GPU cannot be used as a whole; switch it off (nvidia-smi -mig 0)")]
    MigModeOn,
    /// No call can succeed before NVML is initialised again (NVML 1, 9, 12, 18).
    #[error(
        "NVIDIA's driver was reloaded, upgraded or removed (NVML return code {0}; 18 is a driver/library version \
         mismatch); NVML is opened again"
    )]
    DriverChanged(u32),
    /// NVML is not initialised.
    #[error("NVML is not available, it is tried again: {0}")]
    NoSession(String),
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
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::Occupied
            | Self::NotSupported
            | Self::NoPermission
            | Self::FunctionMissing
            | Self::InvalidArgument => true,
            Self::InUse
            | Self::NotFound
            | Self::Lost
            | Self::ResetRequired
            | Self::Absent
            | Self::MigModeOn
            | Self::DriverChanged(_)
            | Self::NoSession(_)
            | Self::AfterCreate(_)
            | Self::Other(_) => false,
        }
    }

    /// Whether the GPU is certainly gone, and with it every instance on it.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Lost | Self::Absent)
    }

    /// Whether no call to any GPU can succeed before NVML is opened (again).
    pub(crate) fn needs_session(&self) -> bool {
        matches!(self, Self::DriverChanged(_) | Self::NoSession(_))
    }
}

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call} on {gpu}: {reason}")]
pub(crate) struct GpuError {
    /// NVML's name of the call.
    pub call: &'static str,
    /// UUID of the GPU, or `this node`.
    pub gpu: String,
    /// Why.
    pub reason: Reason,
}

/// What the node's GPUs are now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Discovered {
    /// GPUs that answer, with their MIG profiles and placements.
    pub gpus: Vec<Gpu>,
    /// GPUs that were found and do not answer, by UUID.
    pub failing: BTreeMap<String, Reason>,
    /// Whether there is a GPU of which not even the UUID is known, for another reason than that it is lost.
    pub is_incomplete: bool,
}

/// GPUs of this node and the instances on them.
pub(crate) trait Gpus: Send + Sync + 'static {
    /// Opens NVML where it is not open, opens it again where the driver changed under it, and looks for GPUs
    /// that did not answer before. `anew` opens it again in any case: GPUs that came back are found then.
    ///
    /// # Errors
    /// [`Reason::NoSession`] with what is missing.
    fn refresh(&self, anew: bool) -> Result<(), GpuError>;

    /// All GPUs, those that answer and those that do not.
    ///
    /// # Errors
    /// When nothing can be told of any GPU.
    fn discover(&self) -> Result<Discovered, GpuError>;

    /// Checks that the GPU answers and that it can be used as a whole.
    ///
    /// # Errors
    /// [`Reason::MigModeOn`], [`Reason::Lost`] and whatever else it answers.
    fn check_whole(&self, gpu_uuid: &str) -> Result<(), GpuError>;

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

    /// Listens for critical errors on all GPUs that can report them, from the first wait on.
    fn watch_xids(&self) -> Box<dyn XidWatch>;
}

/// A subscription to critical errors; lives on a thread of its own.
pub(crate) trait XidWatch: Send {
    /// The next error; `None` when none came within `timeout`.
    ///
    /// # Errors
    /// When waiting itself failed.
    fn next(&mut self, timeout: Duration) -> Result<Option<XidEvent>, GpuError>;
}
