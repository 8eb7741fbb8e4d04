//! Implementation of [`Gpus`] by NVML.
//!
//! | module | what it does |
//! |---|---|
//! | [`library`] | finds libnvidia-ml.so.1 under a driver root |
//! | `session` | NVML opened, and opened again when NVIDIA's driver was reloaded or upgraded |
//! | `describe` | a GPU as plain data: facts, profiles, placements |
//! | `xid_watch` | waits for critical errors |
//! | `raw`, `raw_instances`, `raw_events` | the functions that nvml-wrapper lacks; the only unsafe code |

mod describe;
pub(crate) mod library;
mod raw;
mod raw_events;
mod raw_instances;
mod session;
mod xid_watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sluice_inventory::Placement;

use crate::gpus::{ComputeInstance, Discovered, GpuError, GpuInstance, Gpus, Reason, XidWatch};
use raw::Failure;
use raw_instances::{ComputeInstanceHandle, GpuInstanceHandle};
use session::{KnownGpu, Session, Sessions};
use xid_watch::NvmlXidWatch;

/// Reason why NVML is not open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// The library is not below the driver root.
    #[error(transparent)]
    NotFound(#[from] library::LibraryNotFound),
    /// The library cannot be loaded or initialised.
    #[error("{path} could not be initialised: {source}. Is the NVIDIA kernel module loaded?")]
    Init {
        /// Path of the library.
        path: PathBuf,
        /// Error of the library.
        source: nvml_wrapper::error::NvmlError,
    },
}

/// GPUs of this node. [`Gpus::refresh`] opens NVML.
pub(crate) struct NodeGpus {
    sessions: Arc<Sessions>,
}

impl NodeGpus {
    /// Uses the library below `driver_root`, which need not exist yet.
    pub(crate) fn new(driver_root: &Path) -> Self {
        Self { sessions: Arc::new(Sessions::new(driver_root)) }
    }

    /// Runs calls about one GPU.
    fn on<T>(
        &self,
        uuid: &str,
        act: impl FnOnce(&Session, &KnownGpu) -> Result<T, Failure>,
    ) -> Result<T, GpuError> {
        let session = self.sessions.get()?;
        let gpu = session.gpu(uuid)?;
        session.call(|session| act(session, &gpu)).map_err(on_gpu(uuid))
    }
}

impl Session {
    fn describe_instance(&self, instance: GpuInstanceHandle) -> Result<GpuInstance, Failure> {
        let info = raw_instances::gpu_instance_info(self.nvml.lib(), instance)?;
        Ok(GpuInstance {
            id: info.id,
            profile_id: info.profile_id,
            placement: Placement { start: slice_number(info.start), size: slice_number(info.size) },
        })
    }

    fn describe_compute(&self, compute: ComputeInstanceHandle) -> Result<ComputeInstance, Failure> {
        let info = raw_instances::compute_instance_info(self.nvml.lib(), compute)?;
        Ok(ComputeInstance { id: info.id, uuid: raw::uuid(self.nvml.lib(), info.device)? })
    }

    /// Returns all compute profiles inside a GPU instance. They are always read, because similar GPUs have different
    /// ones.
    fn compute_profiles(
        &self,
        instance: GpuInstanceHandle,
    ) -> Result<Vec<raw_instances::ComputeProfile>, Failure> {
        enumerate(|profile| raw_instances::compute_profile(self.nvml.lib(), instance, profile))
    }
}

/// Calls `get` with 0, 1, 2, … until it refuses the number as invalid. Numbers that are not supported are skipped.
fn enumerate<T>(get: impl Fn(u32) -> Result<T, Failure>) -> Result<Vec<T>, Failure> {
    /// Limit far above any enumeration of NVML, which has 18 values at most today.
    const END: u32 = 64;
    let mut found = Vec::new();
    for number in 0..END {
        match get(number) {
            Ok(item) => found.push(item),
            Err((_, Reason::NotSupported)) => {}
            Err((_, Reason::InvalidArgument)) => break,
            Err(failure) => return Err(failure),
        }
    }
    Ok(found)
}

/// Converts a slice number. NVML's are below 8; a larger one fits into no published placement.
fn slice_number(number: u32) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// Adds the GPU to the error of a call.
fn on_gpu(uuid: &str) -> impl Fn(Failure) -> GpuError + '_ {
    move |(call, reason)| GpuError { call, gpu: uuid.to_owned(), reason }
}

impl Gpus for NodeGpus {
    fn refresh(&self, anew: bool) -> Result<(), GpuError> {
        self.sessions.refresh(anew)
    }

    fn discover(&self) -> Result<Discovered, GpuError> {
        let session = self.sessions.get()?;
        let mut discovered = Discovered { is_incomplete: session.is_incomplete(), ..Discovered::default() };
        for known in session.gpus() {
            match session.call(|session| describe::gpu(&session.nvml, &known)) {
                Ok(gpu) => discovered.gpus.push(gpu),
                Err(failure @ (_, Reason::DriverChanged(_))) => return Err(on_gpu(&known.uuid)(failure)),
                Err((_, reason)) => drop(discovered.failing.insert(known.uuid.clone(), reason)),
            }
        }
        Ok(discovered)
    }

    fn check_whole(&self, gpu_uuid: &str) -> Result<(), GpuError> {
        self.on(gpu_uuid, |session, gpu| {
            let device = raw::device(&session.nvml, gpu.handle);
            // NVML knows the mode of a GPU without MIG without asking the GPU, but not its memory.
            device.memory_info().map_err(|error| ("nvmlDeviceGetMemoryInfo_v2", raw::wrapped(&error)))?;
            match device.mig_mode() {
                Ok(mode) if mode.current == 1 => Err(("nvmlDeviceGetMigMode", Reason::MigModeOn)),
                Ok(_) => Ok(()),
                Err(error) => match raw::wrapped(&error) {
                    Reason::NotSupported | Reason::FunctionMissing => Ok(()),
                    reason => Err(("nvmlDeviceGetMigMode", reason)),
                },
            }
        })
    }

    fn gpu_instances(&self, gpu_uuid: &str) -> Result<Vec<GpuInstance>, GpuError> {
        self.on(gpu_uuid, |session, gpu| {
            let mut instances = Vec::new();
            for profile in &gpu.profiles {
                let lib = session.nvml.lib();
                let handles = match raw_instances::gpu_instances(lib, gpu.handle, profile.id) {
                    Ok(handles) => handles,
                    // MIG mode is off, so the GPU has no instances.
                    Err((_, Reason::NotSupported)) => continue,
                    Err(failure) => return Err(failure),
                };
                for handle in handles {
                    instances.push(session.describe_instance(handle)?);
                }
            }
            Ok(instances)
        })
    }

    fn create_gpu_instance(
        &self,
        gpu_uuid: &str,
        profile_id: u32,
        placement: Placement,
    ) -> Result<GpuInstance, GpuError> {
        let at = (u32::from(placement.start), u32::from(placement.size));
        self.on(gpu_uuid, |session, gpu| {
            let instance =
                raw_instances::create_gpu_instance(session.nvml.lib(), gpu.handle, profile_id, at)?;
            // Callers take a refusal as "nothing was created".
            session
                .describe_instance(instance)
                .map_err(|(call, reason)| (call, Reason::AfterCreate(Box::new(reason))))
        })
    }

    fn destroy_gpu_instance(&self, gpu_uuid: &str, gpu_instance: u32) -> Result<(), GpuError> {
        self.on(gpu_uuid, |session, gpu| {
            let lib = session.nvml.lib();
            let instance = raw_instances::gpu_instance_by_id(lib, gpu.handle, gpu_instance)?;
            raw_instances::destroy_gpu_instance(lib, instance)
        })
    }

    fn compute_instances(&self, gpu_uuid: &str, gpu_instance: u32) -> Result<Vec<ComputeInstance>, GpuError> {
        self.on(gpu_uuid, |session, gpu| {
            let lib = session.nvml.lib();
            let instance = raw_instances::gpu_instance_by_id(lib, gpu.handle, gpu_instance)?;
            let mut found = Vec::new();
            for profile in session.compute_profiles(instance)? {
                for compute in raw_instances::compute_instances(lib, instance, profile.id)? {
                    found.push(session.describe_compute(compute)?);
                }
            }
            Ok(found)
        })
    }

    fn create_compute_instance(
        &self,
        gpu_uuid: &str,
        gpu_instance: u32,
    ) -> Result<ComputeInstance, GpuError> {
        self.on(gpu_uuid, |session, gpu| {
            let lib = session.nvml.lib();
            let instance = raw_instances::gpu_instance_by_id(lib, gpu.handle, gpu_instance)?;
            let profile_id = raw_instances::gpu_instance_info(lib, instance)?.profile_id;
            let slices = gpu.profiles.iter().find(|profile| profile.id == profile_id).map(|p| p.slices);
            // Of the profiles that take the whole instance, the one with the most engines is used: a `+me` instance
            // has two profiles of one slice, and only one of them gets the media engines.
            let whole = session
                .compute_profiles(instance)?
                .into_iter()
                .filter(|profile| Some(profile.slices) == slices)
                .max_by_key(|profile| (profile.multiprocessors, profile.media_engines))
                .ok_or(("choice of a compute profile", Reason::NotSupported))?;
            let compute = raw_instances::create_compute_instance(lib, instance, whole.id)?;
            session.describe_compute(compute)
        })
    }

    fn destroy_compute_instance(
        &self,
        gpu_uuid: &str,
        gpu_instance: u32,
        compute_instance: u32,
    ) -> Result<(), GpuError> {
        self.on(gpu_uuid, |session, gpu| {
            let lib = session.nvml.lib();
            let instance = raw_instances::gpu_instance_by_id(lib, gpu.handle, gpu_instance)?;
            let compute = raw_instances::compute_instance_by_id(lib, instance, compute_instance)?;
            raw_instances::destroy_compute_instance(lib, compute)
        })
    }

    fn watch_xids(&self) -> Box<dyn XidWatch> {
        Box::new(NvmlXidWatch::new(Arc::clone(&self.sessions)))
    }
}
