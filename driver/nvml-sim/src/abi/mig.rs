//! MIG mode and MIG devices.

use std::ffi::c_uint;
use std::ptr::with_exposed_provenance_mut as pointer;

use nvml_wrapper_sys::bindings as sys;
use sys::{nvmlDevice_t, nvmlDeviceAttributes_t};

use super::nvml;
use super::pointer::Out;
use crate::code::Code;
use crate::handles::Object;
use crate::session::{Device, Session};
use crate::state::WHOLE_GPU;

nvml! {
    fn nvmlDeviceGetMigMode(device: nvmlDevice_t, current: Out<c_uint>, pending: Out<c_uint>) |nvml| {
        let device = nvml.gpu(device.addr())?;
        let gpu = device.state.gpus.get(device.gpu).ok_or(Code::INVALID_ARGUMENT)?;
        current.set(c_uint::from(gpu.mig_enabled))?;
        pending.set(c_uint::from(gpu.mig_pending))
    }

    /// Takes effect at once (on real Ampere GPUs the call resets the GPU for it), unless instances exist: then the
    /// call succeeds, the activation status is IN_USE, and the mode stays pending.
    fn nvmlDeviceSetMigMode(device: nvmlDevice_t, mode: c_uint, activation_status: Out<u32>) |nvml| {
        let device = nvml.gpu(device.addr())?;
        if mode > sys::NVML_DEVICE_MIG_ENABLE {
            return Err(Code::INVALID_ARGUMENT);
        }
        // A null pointer is refused before the effect.
        activation_status.set(0)?;
        let status = nvml.store.update(|state| {
            let gpu = state.gpus.get_mut(device.gpu).ok_or(Code::INVALID_ARGUMENT)?;
            let before = gpu.mig_enabled;
            let status = gpu.set_mig(mode == sys::NVML_DEVICE_MIG_ENABLE);
            let changed = gpu.mig_enabled != before;
            if changed {
                let kind = u64::from(sys::nvmlEventMigConfigChange);
                state.push_event(&device.board.uuid, kind, 0, (WHOLE_GPU, WHOLE_GPU));
            }
            Ok::<_, Code>(status)
        })?;
        activation_status.set(status)
    }

    fn nvmlDeviceIsMigDeviceHandle(device: nvmlDevice_t, is_mig: Out<c_uint>) |nvml| {
        is_mig.set(c_uint::from(nvml.device(device.addr())?.mig.is_some()))
    }

    /// Returns 0 if MIG mode is off.
    fn nvmlDeviceGetMaxMigDeviceCount(device: nvmlDevice_t, count: Out<c_uint>) |nvml| {
        count.set(max_mig_devices(&nvml.gpu(device.addr())?))
    }

    fn nvmlDeviceGetMigDeviceHandleByIndex(
        device: nvmlDevice_t,
        index: c_uint,
        mig_device: Out<nvmlDevice_t>,
    ) |nvml| {
        let device = nvml.gpu(device.addr())?;
        let gpu = device.state.gpus.get(device.gpu).ok_or(Code::INVALID_ARGUMENT)?;
        if !gpu.mig_enabled {
            return Err(Code::NOT_SUPPORTED);
        }
        if index >= max_mig_devices(&device) {
            return Err(Code::INVALID_ARGUMENT);
        }
        let (parent, instance) = gpu.mig_devices().nth(index as usize).ok_or(Code::NOT_FOUND)?;
        mig_device.set(pointer(nvml.mig_handle(device.gpu, parent, instance)))
    }

    fn nvmlDeviceGetDeviceHandleFromMigDeviceHandle(mig_device: nvmlDevice_t, device: Out<nvmlDevice_t>) |nvml| {
        let (gpu, ..) = mig_device_of(&nvml, mig_device)?;
        device.set(pointer(nvml.handle_of(Object::Gpu(gpu))))
    }

    fn nvmlDeviceGetGpuInstanceId(device: nvmlDevice_t, id: Out<c_uint>) |nvml| {
        id.set(mig_device_of(&nvml, device)?.1)
    }

    fn nvmlDeviceGetComputeInstanceId(device: nvmlDevice_t, id: Out<c_uint>) |nvml| {
        id.set(mig_device_of(&nvml, device)?.2)
    }

    fn nvmlDeviceGetAttributes(device: nvmlDevice_t, attributes: Out<nvmlDeviceAttributes_t>) |nvml| {
        attributes.set(attributes_of(&nvml.device(device.addr())?)?)
    }

    fn nvmlDeviceGetAttributes_v2(device: nvmlDevice_t, attributes: Out<nvmlDeviceAttributes_t>) |nvml| {
        attributes.set(attributes_of(&nvml.device(device.addr())?)?)
    }
}

/// Returns the maximum number of MIG devices: one for each compute slice.
fn max_mig_devices(device: &Device<'_>) -> c_uint {
    let enabled = device.state.gpus.get(device.gpu).is_some_and(|gpu| gpu.mig_enabled);
    if enabled { device.model().compute_slices } else { 0 }
}

/// Returns GPU index, GPU-instance id and compute-instance id of a handle that must be a MIG device.
fn mig_device_of(nvml: &Session, handle: nvmlDevice_t) -> Result<(usize, c_uint, c_uint), Code> {
    let device = nvml.device(handle.addr())?;
    let (parent, instance) = device.mig.as_ref().ok_or(Code::INVALID_ARGUMENT)?;
    Ok((device.gpu, parent.id, instance.id))
}

fn attributes_of(device: &Device<'_>) -> Result<nvmlDeviceAttributes_t, Code> {
    let (parent, instance) = device.mig.as_ref().ok_or(Code::NOT_SUPPORTED)?;
    let gpu = device.model().profile(parent.profile_id).ok_or(Code::UNKNOWN)?;
    let compute = parent.compute_profile(device.model(), instance.profile_id)?;
    Ok(nvmlDeviceAttributes_t {
        multiprocessorCount: compute.multiprocessors,
        sharedCopyEngineCount: gpu.copy_engines,
        sharedDecoderCount: gpu.decoders,
        sharedEncoderCount: 0,
        sharedJpegCount: gpu.jpeg_engines,
        sharedOfaCount: gpu.ofa_engines,
        gpuInstanceSliceCount: gpu.compute_slices,
        computeInstanceSliceCount: compute.slices,
        memorySizeMB: gpu.memory_mib,
    })
}
