//! Operations on GPUs that the driver needs, as a trait. All code above it works on plain data; [`crate::nvml`]
//! implements it.
//!
//! All calls block, some for seconds (destroying a GPU instance takes about one second on real hardware), so they
//! belong on blocking threads. GPUs are identified by UUID, because index and minor number may change with a reboot.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sluice_inventory::{Gpu, Placement};

#[cfg(test)]
pub(crate) mod fake;

/// GPU instance that exists on a GPU, no matter which program created it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GpuInstance {
    /// Id on the GPU. Ids follow from the placement, so a later instance may have the same id.
    pub id: u32,
    /// Id of the GPU-instance profile.
    pub profile_id: u32,
    /// Placement of the instance.
    pub placement: Placement,
}

/// Compute instance inside a GPU instance, which CUDA sees as a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ComputeInstance {
    /// Id inside the GPU instance.
    pub id: u32,
    /// UUID: `MIG-…`. It is neither unique over time nor stable: an instance that is created again may have the same.
    pub uuid: String,
}

/// Critical error that a GPU reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct XidEvent {
    /// UUID of the GPU; `None` if the event does not name a known GPU.
    pub gpu_uuid: Option<String>,
    /// XID number in NVIDIA's catalogue.
    pub xid: u64,
    /// GPU instance in which the error happened; `None` if it concerns the whole GPU.
    pub gpu_instance: Option<u32>,
}

/// Reason of a failed call, as far as callers need to distinguish.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Reason {
    /// A process or an inner instance still uses the instance (NVML 19).
    #[error("it is still in use by a process or by an instance inside it")]
    InUse,
    /// The placement is occupied, or the GPU has no room (NVML 23).
    #[error("insufficient resources: another instance takes its place")]
    Occupied,
    /// The object does not exist (NVML 6).
    #[error("not found")]
    NotFound,
    /// The GPU, or its present mode, does not support the call (NVML 3).
    #[error("not supported; is MIG mode on?")]
    NotSupported,
    /// The process lacks the permission (NVML 4).
    #[error("no permission; MIG instances are made by root or with CAP_SYS_ADMIN")]
    NoPermission,
    /// The GPU fell off the bus (NVML 15).
    #[error("the GPU is lost; it needs a reset or a reboot")]
    Lost,
    /// The GPU does not respond until it is reset (NVML 16).
    #[error("the GPU requires a reset")]
    ResetRequired,
    /// The GPU is not among those of the node, all of which responded.
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
    /// The library lacks the function (NVML 13), because it is too old.
    #[error("libnvidia-ml.so.1 has no such function; a newer NVIDIA driver is needed")]
    FunctionMissing,
    /// An argument is invalid (NVML 2).
    #[error("invalid argument")]
    InvalidArgument,
    /// The instance was created, but could not be described.
    #[error("the instance was made, but then: {0}")]
    AfterCreate(Box<Reason>),
    /// Any other return code.
    #[error("NVML return code {0}")]
    Other(u32),
}

impl Reason {
    /// Returns whether the call certainly changed nothing, because it was refused before it began.
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

    /// Returns whether the GPU is certainly gone, and with it every instance on it.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Lost | Self::Absent)
    }

    /// Returns whether no call to any GPU can succeed before NVML is opened (again).
    pub(crate) fn needs_session(&self) -> bool {
        matches!(self, Self::DriverChanged(_) | Self::NoSession(_))
    }
}

/// Failed call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call} on {gpu}: {reason}")]
pub(crate) struct GpuError {
    /// Name of the NVML function.
    pub call: &'static str,
    /// UUID of the GPU, or `this node`.
    pub gpu: String,
    pub reason: Reason,
}

/// GPUs of the node at the moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Discovered {
    /// GPUs that respond, with their MIG profiles and placements.
    pub gpus: Vec<Gpu>,
    /// GPUs that were found and do not respond, by UUID.
    pub failing: BTreeMap<String, Reason>,
    /// Whether there is a GPU whose UUID could not be read, for another reason than that it is lost.
    pub is_incomplete: bool,
}

/// GPUs of this node and the instances on them.
pub(crate) trait Gpus: Send + Sync + 'static {
    /// Opens NVML if it is not open, reopens it if NVIDIA's driver was replaced, and looks for GPUs that did not
    /// respond before. `anew` reopens it in any case, which finds GPUs that came back.
    ///
    /// # Errors
    /// Returns [`Reason::NoSession`] with what is missing.
    fn refresh(&self, anew: bool) -> Result<(), GpuError>;

    /// Returns all GPUs, whether they respond or not.
    ///
    /// # Errors
    /// Fails if nothing can be found out about any GPU.
    fn discover(&self) -> Result<Discovered, GpuError>;

    /// Checks that the GPU responds and can be used as a whole.
    ///
    /// # Errors
    /// Returns [`Reason::MigModeOn`], [`Reason::Lost`] or another reason of the GPU.
    fn check_whole(&self, gpu_uuid: &str) -> Result<(), GpuError>;

    /// Returns all GPU instances on a GPU, own and foreign ones. Empty if MIG mode is off.
    ///
    /// # Errors
    /// Fails if the GPU is unknown or does not respond.
    fn gpu_instances(&self, gpu_uuid: &str) -> Result<Vec<GpuInstance>, GpuError>;

    /// Creates a GPU instance exactly at `placement`.
    ///
    /// # Errors
    /// Returns [`Reason::Occupied`] if another instance overlaps it.
    fn create_gpu_instance(
        &self,
        gpu_uuid: &str,
        profile_id: u32,
        placement: Placement,
    ) -> Result<GpuInstance, GpuError>;

    /// Destroys an empty GPU instance.
    ///
    /// # Errors
    /// Returns [`Reason::InUse`] while it contains compute instances or processes.
    fn destroy_gpu_instance(&self, gpu_uuid: &str, gpu_instance: u32) -> Result<(), GpuError>;

    /// Returns the compute instances inside a GPU instance.
    ///
    /// # Errors
    /// Fails if the GPU instance does not exist.
    fn compute_instances(&self, gpu_uuid: &str, gpu_instance: u32) -> Result<Vec<ComputeInstance>, GpuError>;

    /// Creates the compute instance that takes a whole GPU instance.
    ///
    /// # Errors
    /// Fails if the GPU instance has no compute profile of its own size, or is not empty.
    fn create_compute_instance(&self, gpu_uuid: &str, gpu_instance: u32)
    -> Result<ComputeInstance, GpuError>;

    /// Destroys a compute instance.
    ///
    /// # Errors
    /// Returns [`Reason::InUse`] while processes use it.
    fn destroy_compute_instance(
        &self,
        gpu_uuid: &str,
        gpu_instance: u32,
        compute_instance: u32,
    ) -> Result<(), GpuError>;

    /// Subscribes to critical errors of all GPUs that can report them, from the first wait on.
    fn watch_xids(&self) -> Box<dyn XidWatch>;
}

/// Subscription to critical errors. It is used by a thread of its own.
pub(crate) trait XidWatch: Send {
    /// Waits for the next error; `None` if none came within `timeout`.
    ///
    /// # Errors
    /// Fails if the wait itself failed.
    fn next(&mut self, timeout: Duration) -> Result<Option<XidEvent>, GpuError>;
}
