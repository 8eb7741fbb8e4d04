//! Client of the library: nvml-wrapper where it has a call, else the raw bindings.
#![allow(unsafe_code)]

use std::ffi::c_uint;

use nvidia_ml::{Installation, Topology, install};
use nvml_wrapper::Nvml;
use nvml_wrapper_sys::bindings as sys;
use sys::{nvmlComputeInstance_t, nvmlDevice_t, nvmlGpuInstance_t};

/// New installation in a folder of its own.
pub(crate) struct Machine {
    pub(crate) installation: Installation,
    _dir: tempfile::TempDir,
}

impl Machine {
    pub(crate) fn new(topology: &Topology) -> Machine {
        let dir = tempfile::tempdir().unwrap();
        Machine { installation: install(dir.path(), topology).unwrap(), _dir: dir }
    }

    /// Creates one H100 with MIG on.
    pub(crate) fn h100() -> Machine {
        Machine::new(&Topology::uniform("H100-80GB-HBM3", 1).with_mig())
    }

    pub(crate) fn client(&self) -> Client {
        Client::open(&self.installation)
    }
}

pub(crate) struct Client {
    pub(crate) nvml: Nvml,
}

/// Converts a return code of NVML to a result.
pub(crate) fn checked(code: u32) -> Result<(), u32> {
    if code == 0 { Ok(()) } else { Err(code) }
}

/// Returns a struct of numbers, all zero.
fn zeroed<T>() -> T {
    // SAFETY: used only for NVML's structs, which are numbers, arrays of them, and pointers that may be null.
    unsafe { std::mem::zeroed() }
}

impl Client {
    pub(crate) fn open(installation: &Installation) -> Client {
        let library = installation.library();
        Client { nvml: Nvml::builder().lib_path(library.as_os_str()).init().unwrap() }
    }

    pub(crate) fn gpu(&self, index: u32) -> nvmlDevice_t {
        let device = self.nvml.device_by_index(index).unwrap();
        // SAFETY: the handle is used while the library is loaded.
        unsafe { device.handle() }
    }

    pub(crate) fn create(
        &self,
        gpu: nvmlDevice_t,
        profile: c_uint,
        at: Option<(c_uint, c_uint)>,
    ) -> Result<nvmlGpuInstance_t, u32> {
        let mut instance = std::ptr::null_mut();
        let lib = self.nvml.lib();
        let code = match at {
            // SAFETY: the arguments are as NVML demands them.
            None => unsafe { lib.nvmlDeviceCreateGpuInstance(gpu, profile, &mut instance) },
            Some((start, size)) => {
                let placement = sys::nvmlGpuInstancePlacement_t { start, size };
                // SAFETY: as before.
                unsafe {
                    lib.nvmlDeviceCreateGpuInstanceWithPlacement(gpu, profile, &placement, &mut instance)
                }
            }
        };
        checked(code).map(|()| instance)
    }

    pub(crate) fn destroy(&self, instance: nvmlGpuInstance_t) -> Result<(), u32> {
        // SAFETY: the library refuses handles that it does not know.
        checked(unsafe { self.nvml.lib().nvmlGpuInstanceDestroy(instance) })
    }

    pub(crate) fn info(&self, instance: nvmlGpuInstance_t) -> Result<sys::nvmlGpuInstanceInfo_t, u32> {
        let mut info = zeroed();
        // SAFETY: `info` is a place for the answer.
        checked(unsafe { self.nvml.lib().nvmlGpuInstanceGetInfo(instance, &mut info) }).map(|()| info)
    }

    pub(crate) fn by_id(&self, gpu: nvmlDevice_t, id: c_uint) -> Result<nvmlGpuInstance_t, u32> {
        let mut instance = std::ptr::null_mut();
        // SAFETY: `instance` is a place for the answer.
        checked(unsafe { self.nvml.lib().nvmlDeviceGetGpuInstanceById(gpu, id, &mut instance) })
            .map(|()| instance)
    }

    /// Returns the ids of the GPU instances of a profile.
    pub(crate) fn list(&self, gpu: nvmlDevice_t, profile: c_uint) -> Result<Vec<c_uint>, u32> {
        let mut handles = [std::ptr::null_mut(); 16];
        let mut count = 0;
        // SAFETY: 16 places are more than a GPU has instances.
        let code = unsafe {
            self.nvml.lib().nvmlDeviceGetGpuInstances(gpu, profile, handles.as_mut_ptr(), &mut count)
        };
        checked(code)?;
        handles[..count as usize].iter().map(|handle| Ok(self.info(*handle)?.id)).collect()
    }

    pub(crate) fn remaining(&self, gpu: nvmlDevice_t, profile: c_uint) -> Result<c_uint, u32> {
        let mut count = 0;
        // SAFETY: `count` is a place for the answer.
        let code =
            unsafe { self.nvml.lib().nvmlDeviceGetGpuInstanceRemainingCapacity(gpu, profile, &mut count) };
        checked(code).map(|()| count)
    }

    /// Returns start and size of each possible placement.
    pub(crate) fn placements(
        &self,
        gpu: nvmlDevice_t,
        profile: c_uint,
    ) -> Result<Vec<(c_uint, c_uint)>, u32> {
        let lib = self.nvml.lib();
        let (mut count, mut places) = (0, [sys::nvmlGpuInstancePlacement_t { start: 0, size: 0 }; 16]);
        // SAFETY: a null list asks for the number alone.
        let code = unsafe {
            lib.nvmlDeviceGetGpuInstancePossiblePlacements_v2(gpu, profile, std::ptr::null_mut(), &mut count)
        };
        checked(code)?;
        let expected = count;
        // SAFETY: 16 places are more than a profile has placements.
        let code = unsafe {
            lib.nvmlDeviceGetGpuInstancePossiblePlacements_v2(gpu, profile, places.as_mut_ptr(), &mut count)
        };
        checked(code)?;
        assert_eq!(count, expected);
        Ok(places[..count as usize].iter().map(|place| (place.start, place.size)).collect())
    }

    /// Requests the profile with this struct version.
    pub(crate) fn profile_info(
        &self,
        gpu: nvmlDevice_t,
        profile: c_uint,
        version: c_uint,
    ) -> Result<sys::nvmlGpuInstanceProfileInfo_v2_t, u32> {
        let mut info = sys::nvmlGpuInstanceProfileInfo_v2_t { version, ..zeroed() };
        // SAFETY: `info` is a place for the answer of this version.
        let code = unsafe { self.nvml.lib().nvmlDeviceGetGpuInstanceProfileInfoV(gpu, profile, &mut info) };
        checked(code).map(|()| info)
    }

    pub(crate) fn compute_profile_info(
        &self,
        parent: nvmlGpuInstance_t,
        profile: c_uint,
    ) -> Result<sys::nvmlComputeInstanceProfileInfo_v2_t, u32> {
        let version = version_2::<sys::nvmlComputeInstanceProfileInfo_v2_t>();
        let mut info = sys::nvmlComputeInstanceProfileInfo_v2_t { version, ..zeroed() };
        // SAFETY: `info` is a place for the answer of this version.
        let code = unsafe {
            self.nvml.lib().nvmlGpuInstanceGetComputeInstanceProfileInfoV(parent, profile, 0, &mut info)
        };
        checked(code).map(|()| info)
    }

    pub(crate) fn create_compute(
        &self,
        parent: nvmlGpuInstance_t,
        profile: c_uint,
    ) -> Result<nvmlComputeInstance_t, u32> {
        let mut instance = std::ptr::null_mut();
        // SAFETY: `instance` is a place for the answer.
        let code =
            unsafe { self.nvml.lib().nvmlGpuInstanceCreateComputeInstance(parent, profile, &mut instance) };
        checked(code).map(|()| instance)
    }

    pub(crate) fn compute_by_id(
        &self,
        parent: nvmlGpuInstance_t,
        id: c_uint,
    ) -> Result<nvmlComputeInstance_t, u32> {
        let mut instance = std::ptr::null_mut();
        // SAFETY: `instance` is a place for the answer.
        let code =
            unsafe { self.nvml.lib().nvmlGpuInstanceGetComputeInstanceById(parent, id, &mut instance) };
        checked(code).map(|()| instance)
    }

    pub(crate) fn destroy_compute(&self, instance: nvmlComputeInstance_t) -> Result<(), u32> {
        // SAFETY: the library refuses handles that it does not know.
        checked(unsafe { self.nvml.lib().nvmlComputeInstanceDestroy(instance) })
    }

    pub(crate) fn compute_info(
        &self,
        instance: nvmlComputeInstance_t,
    ) -> Result<sys::nvmlComputeInstanceInfo_t, u32> {
        let mut info = zeroed();
        // SAFETY: `info` is a place for the answer.
        checked(unsafe { self.nvml.lib().nvmlComputeInstanceGetInfo_v2(instance, &mut info) }).map(|()| info)
    }

    /// Returns the GPU-instance id and compute-instance id of a MIG device.
    pub(crate) fn ids(&self, device: nvmlDevice_t) -> Result<(c_uint, c_uint), u32> {
        let (mut gpu_instance, mut compute_instance) = (0, 0);
        // SAFETY: a place for the answer.
        checked(unsafe { self.nvml.lib().nvmlDeviceGetGpuInstanceId(device, &mut gpu_instance) })?;
        // SAFETY: a place for the answer.
        checked(unsafe { self.nvml.lib().nvmlDeviceGetComputeInstanceId(device, &mut compute_instance) })?;
        Ok((gpu_instance, compute_instance))
    }

    /// Requests the UUID with a buffer of this size.
    pub(crate) fn uuid(&self, device: nvmlDevice_t, room: usize) -> Result<String, u32> {
        let mut text = vec![0; room];
        // SAFETY: the buffer is as long as is said.
        checked(unsafe { self.nvml.lib().nvmlDeviceGetUUID(device, text.as_mut_ptr(), room as c_uint) })?;
        Ok(text.iter().take_while(|byte| **byte != 0).map(|byte| *byte as u8 as char).collect())
    }

    pub(crate) fn event_set(&self, gpu: nvmlDevice_t, types: u64) -> sys::nvmlEventSet_t {
        let mut set = std::ptr::null_mut();
        // SAFETY: a place for the answer.
        checked(unsafe { self.nvml.lib().nvmlEventSetCreate(&mut set) }).unwrap();
        // SAFETY: both handles come from this library.
        checked(unsafe { self.nvml.lib().nvmlDeviceRegisterEvents(gpu, types, set) }).unwrap();
        set
    }

    pub(crate) fn wait(
        &self,
        set: sys::nvmlEventSet_t,
        timeout_ms: c_uint,
    ) -> Result<sys::nvmlEventData_t, u32> {
        let mut data = zeroed();
        // SAFETY: a place for the answer.
        checked(unsafe { self.nvml.lib().nvmlEventSetWait_v2(set, &mut data, timeout_ms) }).map(|()| data)
    }

    pub(crate) fn free(&self, set: sys::nvmlEventSet_t) -> Result<(), u32> {
        // SAFETY: the library refuses handles that it does not know.
        checked(unsafe { self.nvml.lib().nvmlEventSetFree(set) })
    }
}

/// `NVML_STRUCT_VERSION(T, 2)`.
pub(crate) fn version_2<T>() -> c_uint {
    size_of::<T>() as c_uint | 2 << 24
}

/// Returns the text in an array of C characters.
pub(crate) fn text(array: &[std::ffi::c_char]) -> String {
    array.iter().take_while(|byte| **byte != 0).map(|byte| *byte as u8 as char).collect()
}

/// Loads the raw library without initialising it.
pub(crate) fn uninitialised(installation: &Installation) -> sys::NvmlLib {
    // SAFETY: loading the library runs no code of ours.
    unsafe { sys::NvmlLib::new(installation.library()) }.unwrap()
}
