//! Safe wrappers of the NVML functions that create, list and destroy MIG instances, which nvml-wrapper lacks.
//!
//! Handles of instances are never kept, because they become invalid when any program destroys the instance. Each
//! operation reads them again.
#![allow(unsafe_code)]

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{
    NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED, NvmlLib, nvmlComputeInstance_t, nvmlComputeInstanceInfo_t,
    nvmlComputeInstanceProfileInfo_t, nvmlGpuInstance_t, nvmlGpuInstanceInfo_t, nvmlGpuInstancePlacement_t,
};

use super::raw::{DeviceHandle, Failure, MAX_INSTANCES, check, symbol};

/// Handle of a GPU instance, valid for one operation.
#[derive(Debug, Clone, Copy)]
pub(super) struct GpuInstanceHandle(nvmlGpuInstance_t);

/// Handle of a compute instance, valid for one operation.
#[derive(Debug, Clone, Copy)]
pub(super) struct ComputeInstanceHandle(nvmlComputeInstance_t);

/// GPU instance as NVML describes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct GpuInstanceInfo {
    pub(super) id: u32,
    pub(super) profile_id: u32,
    /// First memory slice.
    pub(super) start: u32,
    /// Number of memory slices.
    pub(super) size: u32,
}

/// Profile of compute instances inside one GPU instance.
#[derive(Debug, Clone, Copy)]
pub(super) struct ComputeProfile {
    pub(super) id: u32,
    /// Number of compute slices.
    pub(super) slices: u32,
    pub(super) multiprocessors: u32,
    /// Number of decoders, encoders, JPEG and OFA engines together, which distinguishes a `+me` profile from a plain
    /// one.
    pub(super) media_engines: u32,
}

/// Compute instance as NVML describes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct ComputeInstanceInfo {
    pub(super) id: u32,
    /// MIG device that CUDA sees.
    pub(super) device: DeviceHandle,
}

/// Returns the GPU instances of one profile.
pub(super) fn gpu_instances(
    lib: &NvmlLib,
    device: DeviceHandle,
    profile_id: u32,
) -> Result<Vec<GpuInstanceHandle>, Failure> {
    const CALL: &str = "nvmlDeviceGetGpuInstances";
    let function = symbol(CALL, &lib.nvmlDeviceGetGpuInstances)?;
    let mut buffer: Vec<nvmlGpuInstance_t> = vec![std::ptr::null_mut(); MAX_INSTANCES];
    let mut count = MAX_INSTANCES as c_uint;
    // SAFETY: NVML writes at most the profile's instance count (7 on today's GPUs), the buffer has more.
    check(CALL, unsafe { function(device.0, profile_id, buffer.as_mut_ptr(), &raw mut count) })?;
    buffer.truncate(count as usize);
    Ok(buffer.into_iter().map(GpuInstanceHandle).collect())
}

/// Returns the GPU instance with an id.
pub(super) fn gpu_instance_by_id(
    lib: &NvmlLib,
    device: DeviceHandle,
    id: u32,
) -> Result<GpuInstanceHandle, Failure> {
    const CALL: &str = "nvmlDeviceGetGpuInstanceById";
    let function = symbol(CALL, &lib.nvmlDeviceGetGpuInstanceById)?;
    let mut instance: nvmlGpuInstance_t = std::ptr::null_mut();
    // SAFETY: NVML writes one handle.
    check(CALL, unsafe { function(device.0, id, &raw mut instance) })?;
    Ok(GpuInstanceHandle(instance))
}

/// Returns id, profile and placement of a GPU instance.
pub(super) fn gpu_instance_info(
    lib: &NvmlLib,
    instance: GpuInstanceHandle,
) -> Result<GpuInstanceInfo, Failure> {
    const CALL: &str = "nvmlGpuInstanceGetInfo";
    let function = symbol(CALL, &lib.nvmlGpuInstanceGetInfo)?;
    // SAFETY: a C structure of integers and a pointer, for which zeroes are a valid value.
    let mut info: nvmlGpuInstanceInfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: the handle was just returned by NVML, and the function fills this structure.
    check(CALL, unsafe { function(instance.0, &raw mut info) })?;
    Ok(GpuInstanceInfo {
        id: info.id,
        profile_id: info.profileId,
        start: info.placement.start,
        size: info.placement.size,
    })
}

/// Creates a GPU instance at a placement.
pub(super) fn create_gpu_instance(
    lib: &NvmlLib,
    device: DeviceHandle,
    profile_id: u32,
    (start, size): (u32, u32),
) -> Result<GpuInstanceHandle, Failure> {
    const CALL: &str = "nvmlDeviceCreateGpuInstanceWithPlacement";
    let function = symbol(CALL, &lib.nvmlDeviceCreateGpuInstanceWithPlacement)?;
    let placement = nvmlGpuInstancePlacement_t { start, size };
    let mut instance: nvmlGpuInstance_t = std::ptr::null_mut();
    // SAFETY: NVML reads one placement and writes one handle.
    check(CALL, unsafe { function(device.0, profile_id, &raw const placement, &raw mut instance) })?;
    Ok(GpuInstanceHandle(instance))
}

/// Destroys a GPU instance.
pub(super) fn destroy_gpu_instance(lib: &NvmlLib, instance: GpuInstanceHandle) -> Result<(), Failure> {
    const CALL: &str = "nvmlGpuInstanceDestroy";
    let function = symbol(CALL, &lib.nvmlGpuInstanceDestroy)?;
    // SAFETY: the handle was just returned by NVML, and is not used again.
    check(CALL, unsafe { function(instance.0) })
}

/// Returns the compute profile that NVML has under the enumeration value `profile`, which is not its id.
pub(super) fn compute_profile(
    lib: &NvmlLib,
    instance: GpuInstanceHandle,
    profile: u32,
) -> Result<ComputeProfile, Failure> {
    const CALL: &str = "nvmlGpuInstanceGetComputeInstanceProfileInfo";
    let function = symbol(CALL, &lib.nvmlGpuInstanceGetComputeInstanceProfileInfo)?;
    // SAFETY: a C structure of integers, for which zeroes are a valid value.
    let mut info: nvmlComputeInstanceProfileInfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: the handle was just returned by NVML, and the function fills this structure.
    check(CALL, unsafe {
        function(instance.0, profile, NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED, &raw mut info)
    })?;
    Ok(ComputeProfile {
        id: info.id,
        slices: info.sliceCount,
        multiprocessors: info.multiprocessorCount,
        media_engines: [
            info.sharedDecoderCount,
            info.sharedEncoderCount,
            info.sharedJpegCount,
            info.sharedOfaCount,
        ]
        .iter()
        .sum(),
    })
}

/// Returns the compute instances of one profile inside a GPU instance.
pub(super) fn compute_instances(
    lib: &NvmlLib,
    instance: GpuInstanceHandle,
    profile_id: u32,
) -> Result<Vec<ComputeInstanceHandle>, Failure> {
    const CALL: &str = "nvmlGpuInstanceGetComputeInstances";
    let function = symbol(CALL, &lib.nvmlGpuInstanceGetComputeInstances)?;
    let mut buffer: Vec<nvmlComputeInstance_t> = vec![std::ptr::null_mut(); MAX_INSTANCES];
    let mut count = MAX_INSTANCES as c_uint;
    // SAFETY: NVML writes at most the profile's instance count (7 on today's GPUs), the buffer has more.
    check(CALL, unsafe { function(instance.0, profile_id, buffer.as_mut_ptr(), &raw mut count) })?;
    buffer.truncate(count as usize);
    Ok(buffer.into_iter().map(ComputeInstanceHandle).collect())
}

/// Returns the compute instance with an id.
pub(super) fn compute_instance_by_id(
    lib: &NvmlLib,
    instance: GpuInstanceHandle,
    id: u32,
) -> Result<ComputeInstanceHandle, Failure> {
    const CALL: &str = "nvmlGpuInstanceGetComputeInstanceById";
    let function = symbol(CALL, &lib.nvmlGpuInstanceGetComputeInstanceById)?;
    let mut compute: nvmlComputeInstance_t = std::ptr::null_mut();
    // SAFETY: NVML writes one handle.
    check(CALL, unsafe { function(instance.0, id, &raw mut compute) })?;
    Ok(ComputeInstanceHandle(compute))
}

/// Id and MIG device of a compute instance.
pub(super) fn compute_instance_info(
    lib: &NvmlLib,
    compute: ComputeInstanceHandle,
) -> Result<ComputeInstanceInfo, Failure> {
    const CALL: &str = "nvmlComputeInstanceGetInfo_v2";
    let function = symbol(CALL, &lib.nvmlComputeInstanceGetInfo_v2)?;
    // SAFETY: a C structure of integers and pointers, for which zeroes are a valid value.
    let mut info: nvmlComputeInstanceInfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: the handle was just given by NVML, the structure is what the function fills.
    check(CALL, unsafe { function(compute.0, &raw mut info) })?;
    Ok(ComputeInstanceInfo { id: info.id, device: DeviceHandle(info.device) })
}

/// Creates a compute instance.
pub(super) fn create_compute_instance(
    lib: &NvmlLib,
    instance: GpuInstanceHandle,
    profile_id: u32,
) -> Result<ComputeInstanceHandle, Failure> {
    const CALL: &str = "nvmlGpuInstanceCreateComputeInstance";
    let function = symbol(CALL, &lib.nvmlGpuInstanceCreateComputeInstance)?;
    let mut compute: nvmlComputeInstance_t = std::ptr::null_mut();
    // SAFETY: NVML writes one handle.
    check(CALL, unsafe { function(instance.0, profile_id, &raw mut compute) })?;
    Ok(ComputeInstanceHandle(compute))
}

/// Destroys a compute instance.
pub(super) fn destroy_compute_instance(lib: &NvmlLib, compute: ComputeInstanceHandle) -> Result<(), Failure> {
    const CALL: &str = "nvmlComputeInstanceDestroy";
    let function = symbol(CALL, &lib.nvmlComputeInstanceDestroy)?;
    // SAFETY: the handle was just returned by NVML, and is not used again.
    check(CALL, unsafe { function(compute.0) })
}
