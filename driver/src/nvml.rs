//! NVML behind [`Gpus`]: one session for the life of the process.
//!
//! | module | what it does |
//! |---|---|
//! | [`library`] | finds libnvidia-ml.so.1 under a driver root |
//! | `describe` | a GPU as plain data: facts, profiles, placements |
//! | `raw`, `raw_instances`, `raw_events` | the functions that nvml-wrapper lacks; the only unsafe code |
//!
//! Handles of GPUs are looked up once and kept: looking them up again takes seconds on a busy node.

mod describe;
pub mod library;
mod raw;
mod raw_events;
mod raw_instances;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nvml_wrapper::{Device, Nvml};
use sluice_inventory::{Gpu, Placement};

use crate::gpus::{ComputeInstance, GpuError, GpuInstance, Gpus, Reason, XidEvent, XidWatch};
use raw::{DeviceHandle, Failure, ProfileInfo};
use raw_instances::{ComputeInstanceHandle, GpuInstanceHandle};

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No library under the driver root.
    #[error(transparent)]
    NotFound(#[from] library::LibraryNotFound),
    /// The library cannot be loaded or initialised.
    #[error("{path} could not be initialised: {source}. Is the NVIDIA kernel module loaded?")]
    Init {
        /// The library.
        path: PathBuf,
        /// What it said.
        source: nvml_wrapper::error::NvmlError,
    },
}

/// One GPU of the session.
struct Known {
    uuid: String,
    device: Device<'static>,
    handle: DeviceHandle,
    /// Every GPU-instance profile that NVML has for it, also those that are not published: foreign
    /// instances may be of any.
    profiles: Vec<ProfileInfo>,
}

/// An initialised NVML.
pub struct NvmlSession {
    nvml: &'static Nvml,
    gpus: BTreeMap<String, Known>,
}

impl NvmlSession {
    /// Loads the library under `driver_root` and looks up the GPUs.
    ///
    /// The library stays initialised until the process ends: handles must stay valid for the threads
    /// that block in it.
    ///
    /// # Errors
    /// Names the places tried, or what the library said.
    pub fn open(driver_root: &Path) -> Result<Self, OpenError> {
        let path = library::find(driver_root)?;
        let nvml = Nvml::builder()
            .lib_path(path.as_os_str())
            .init()
            .map_err(|source| OpenError::Init { path: path.clone(), source })?;
        let nvml: &'static Nvml = Box::leak(Box::new(nvml));
        let count = nvml.device_count().map_err(|source| OpenError::Init { path: path.clone(), source })?;
        let mut gpus = BTreeMap::new();
        for index in 0..count {
            match known(nvml, index) {
                Ok(gpu) => {
                    gpus.insert(gpu.uuid.clone(), gpu);
                }
                Err(error) => tracing::warn!(index, %error, "A GPU does not answer and is left out."),
            }
        }
        tracing::info!(library = %path.display(), gpus = gpus.len(), "NVML is initialised.");
        Ok(Self { nvml, gpus })
    }

    fn gpu(&self, uuid: &str) -> Result<&Known, GpuError> {
        self.gpus.get(uuid).ok_or_else(|| GpuError {
            call: "look-up",
            gpu: uuid.to_owned(),
            reason: Reason::NotFound,
        })
    }

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

    /// All compute profiles inside a GPU instance. They are asked for, never assumed: which exist differs
    /// between GPUs that look alike.
    fn compute_profiles(
        &self,
        instance: GpuInstanceHandle,
    ) -> Result<Vec<raw_instances::ComputeProfile>, Failure> {
        enumerate(|profile| raw_instances::compute_profile(self.nvml.lib(), instance, profile))
    }
}

fn known(nvml: &'static Nvml, index: u32) -> Result<Known, String> {
    let device = nvml.device_by_index(index).map_err(|error| error.to_string())?;
    let uuid = device.uuid().map_err(|error| error.to_string())?;
    let handle = raw::handle(&device);
    let profiles = match enumerate(|profile| raw::gpu_instance_profile(nvml.lib(), handle, profile)) {
        Ok(profiles) => profiles,
        // GPUs and drivers without MIG.
        Err((_, Reason::FunctionMissing)) => Vec::new(),
        Err((call, reason)) => return Err(format!("{call}: {reason}")),
    };
    Ok(Known { uuid, device, handle, profiles })
}

/// Calls `get` with 0, 1, 2, … until it refuses the number itself; what is not supported is a gap.
fn enumerate<T>(get: impl Fn(u32) -> Result<T, Failure>) -> Result<Vec<T>, Failure> {
    /// Far above any enumeration that NVML has (18 at most today).
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

/// A slice number; NVML's are below 8, and whatever is not fits in no published placement.
fn slice_number(number: u32) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// Adds the GPU to a failed call.
fn on_gpu(uuid: &str) -> impl Fn(Failure) -> GpuError + '_ {
    move |(call, reason)| GpuError { call, gpu: uuid.to_owned(), reason }
}

impl Gpus for NvmlSession {
    fn discover(&self) -> Result<Vec<Gpu>, GpuError> {
        let mut gpus = Vec::new();
        for known in self.gpus.values() {
            match describe::gpu(self.nvml, known) {
                Ok(gpu) => gpus.push(gpu),
                Err(error) => tracing::warn!(%error, "A GPU cannot be described and is left out."),
            }
        }
        Ok(gpus)
    }

    fn gpu_instances(&self, gpu_uuid: &str) -> Result<Vec<GpuInstance>, GpuError> {
        let gpu = self.gpu(gpu_uuid)?;
        let mut instances = Vec::new();
        for profile in &gpu.profiles {
            let handles = match raw_instances::gpu_instances(self.nvml.lib(), gpu.handle, profile.id) {
                Ok(handles) => handles,
                // MIG mode is off: nothing can stand there.
                Err((_, Reason::NotSupported)) => continue,
                Err(failure) => return Err(on_gpu(gpu_uuid)(failure)),
            };
            for handle in handles {
                instances.push(self.describe_instance(handle).map_err(on_gpu(gpu_uuid))?);
            }
        }
        Ok(instances)
    }

    fn create_gpu_instance(
        &self,
        gpu_uuid: &str,
        profile_id: u32,
        placement: Placement,
    ) -> Result<GpuInstance, GpuError> {
        let gpu = self.gpu(gpu_uuid)?;
        let at = (u32::from(placement.start), u32::from(placement.size));
        raw_instances::create_gpu_instance(self.nvml.lib(), gpu.handle, profile_id, at)
            .and_then(|instance| {
                // Callers take a refusal for "nothing was made".
                self.describe_instance(instance)
                    .map_err(|(call, reason)| (call, Reason::AfterCreate(Box::new(reason))))
            })
            .map_err(on_gpu(gpu_uuid))
    }

    fn destroy_gpu_instance(&self, gpu_uuid: &str, gpu_instance: u32) -> Result<(), GpuError> {
        let gpu = self.gpu(gpu_uuid)?;
        raw_instances::gpu_instance_by_id(self.nvml.lib(), gpu.handle, gpu_instance)
            .and_then(|instance| raw_instances::destroy_gpu_instance(self.nvml.lib(), instance))
            .map_err(on_gpu(gpu_uuid))
    }

    fn compute_instances(&self, gpu_uuid: &str, gpu_instance: u32) -> Result<Vec<ComputeInstance>, GpuError> {
        let gpu = self.gpu(gpu_uuid)?;
        let list = || -> Result<Vec<ComputeInstance>, Failure> {
            let lib = self.nvml.lib();
            let instance = raw_instances::gpu_instance_by_id(lib, gpu.handle, gpu_instance)?;
            let mut found = Vec::new();
            for profile in self.compute_profiles(instance)? {
                for compute in raw_instances::compute_instances(lib, instance, profile.id)? {
                    found.push(self.describe_compute(compute)?);
                }
            }
            Ok(found)
        };
        list().map_err(on_gpu(gpu_uuid))
    }

    fn create_compute_instance(
        &self,
        gpu_uuid: &str,
        gpu_instance: u32,
    ) -> Result<ComputeInstance, GpuError> {
        let gpu = self.gpu(gpu_uuid)?;
        let create = || -> Result<ComputeInstance, Failure> {
            let lib = self.nvml.lib();
            let instance = raw_instances::gpu_instance_by_id(lib, gpu.handle, gpu_instance)?;
            let profile_id = raw_instances::gpu_instance_info(lib, instance)?.profile_id;
            let slices = gpu.profiles.iter().find(|profile| profile.id == profile_id).map(|p| p.slices);
            // Of the profiles that take the whole instance, the one with most engines: a `+me` instance
            // has two of one slice, and only one of them gets the media engines.
            let whole = self
                .compute_profiles(instance)?
                .into_iter()
                .filter(|profile| Some(profile.slices) == slices)
                .max_by_key(|profile| (profile.multiprocessors, profile.media_engines))
                .ok_or(("choice of a compute profile", Reason::NotSupported))?;
            let compute = raw_instances::create_compute_instance(lib, instance, whole.id)?;
            self.describe_compute(compute)
        };
        create().map_err(on_gpu(gpu_uuid))
    }

    fn destroy_compute_instance(
        &self,
        gpu_uuid: &str,
        gpu_instance: u32,
        compute_instance: u32,
    ) -> Result<(), GpuError> {
        let gpu = self.gpu(gpu_uuid)?;
        let lib = self.nvml.lib();
        raw_instances::gpu_instance_by_id(lib, gpu.handle, gpu_instance)
            .and_then(|instance| raw_instances::compute_instance_by_id(lib, instance, compute_instance))
            .and_then(|compute| raw_instances::destroy_compute_instance(lib, compute))
            .map_err(on_gpu(gpu_uuid))
    }

    fn watch_xids(&self) -> Result<Box<dyn XidWatch>, GpuError> {
        let lib = self.nvml.lib();
        let set = raw_events::create(lib).map_err(on_gpu("this node"))?;
        let mut uuids = Vec::new();
        for gpu in self.gpus.values() {
            match raw_events::register(lib, &set, gpu.handle) {
                Ok(()) => uuids.push((gpu.handle, gpu.uuid.clone())),
                Err((call, reason)) => {
                    tracing::warn!(gpu = gpu.uuid, call, %reason, "A GPU's critical errors cannot be watched.");
                }
            }
        }
        Ok(Box::new(NvmlXidWatch { nvml: self.nvml, set, uuids }))
    }
}

struct NvmlXidWatch {
    nvml: &'static Nvml,
    set: raw_events::EventSet,
    uuids: Vec<(DeviceHandle, String)>,
}

impl XidWatch for NvmlXidWatch {
    fn next(&mut self, timeout: Duration) -> Result<Option<XidEvent>, GpuError> {
        let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        let event = raw_events::wait(self.nvml.lib(), &self.set, timeout_ms).map_err(on_gpu("this node"))?;
        Ok(event.map(|event| XidEvent {
            gpu_uuid: self.uuids.iter().find(|(handle, _)| *handle == event.device).map(|(_, u)| u.clone()),
            xid: event.xid,
            gpu_instance: event.gpu_instance,
        }))
    }
}
