//! GPU instances: profiles, placements, creation, destruction.

use std::ffi::c_uint;
use std::ptr::with_exposed_provenance_mut as pointer;

use nvml_wrapper_sys::bindings as sys;
use sys::{nvmlDevice_t, nvmlGpuInstance_t, nvmlGpuInstanceInfo_t, nvmlGpuInstancePlacement_t};
use sys::{nvmlGpuInstanceProfileInfo_t, nvmlGpuInstanceProfileInfo_v2_t, nvmlGpuInstanceProfileInfo_v3_t};

use super::nvml;
use super::pointer::{In, Out, OutList, Versioned, c_array, version_of};
use crate::code::Code;
use crate::geometry::{GpuProfile, Placement};
use crate::handles::Object;
use crate::mig::Incarnation;
use crate::session::{Device, Session};
use crate::state::{GpuInstance, GpuState};

/// `NVML_GPU_INSTANCE_PROFILE_COUNT` of the newest headers. Profile numbers below it are valid.
const PROFILE_COUNT: c_uint = 18;

nvml! {
    fn nvmlDeviceGetGpuInstanceProfileInfo(
        device: nvmlDevice_t,
        profile: c_uint,
        info: Out<nvmlGpuInstanceProfileInfo_t>,
    ) |nvml| {
        let profile = enumerated(&nvml.gpu(device.addr())?, profile)?;
        info.set(nvmlGpuInstanceProfileInfo_t {
            id: profile.id,
            isP2pSupported: 0,
            sliceCount: profile.compute_slices,
            instanceCount: profile.max_instances,
            multiprocessorCount: profile.multiprocessors,
            copyEngineCount: profile.copy_engines,
            decoderCount: profile.decoders,
            encoderCount: 0,
            jpegCount: profile.jpeg_engines,
            ofaCount: profile.ofa_engines,
            memorySizeMB: profile.memory_mib,
        })
    }

    fn nvmlDeviceGetGpuInstanceProfileInfoV(device: nvmlDevice_t, profile: c_uint, info: Versioned) |nvml| {
        profile_info(enumerated(&nvml.gpu(device.addr())?, profile)?, &info)
    }

    /// Takes the id of the profile, not its enumeration number.
    fn nvmlDeviceGetGpuInstanceProfileInfoByIdV(device: nvmlDevice_t, profile_id: c_uint, info: Versioned) |nvml| {
        let device = nvml.gpu(device.addr())?;
        profile_info(device.model().profile(profile_id).ok_or(Code::INVALID_ARGUMENT)?, &info)
    }

    fn nvmlDeviceGetGpuInstancePossiblePlacements(
        device: nvmlDevice_t,
        profile_id: c_uint,
        placements: OutList<nvmlGpuInstancePlacement_t>,
        count: Out<c_uint>,
    ) |nvml| {
        placements.fill(&count, &possible_placements(&nvml.gpu(device.addr())?, profile_id)?)
    }

    fn nvmlDeviceGetGpuInstancePossiblePlacements_v2(
        device: nvmlDevice_t,
        profile_id: c_uint,
        placements: OutList<nvmlGpuInstancePlacement_t>,
        count: Out<c_uint>,
    ) |nvml| {
        placements.fill(&count, &possible_placements(&nvml.gpu(device.addr())?, profile_id)?)
    }

    fn nvmlDeviceGetGpuInstanceRemainingCapacity(
        device: nvmlDevice_t,
        profile_id: c_uint,
        count: Out<c_uint>,
    ) |nvml| {
        let device = nvml.gpu(device.addr())?;
        let gpu = gpu_of(&device)?;
        let profile = gpu.enabled_profile(device.model(), profile_id)?;
        count.set(gpu.remaining_capacity(device.model(), profile))
    }

    fn nvmlDeviceCreateGpuInstance(
        device: nvmlDevice_t,
        profile_id: c_uint,
        instance: Out<nvmlGpuInstance_t>,
    ) |nvml| {
        create(&nvml, device, profile_id, None, &instance)
    }

    fn nvmlDeviceCreateGpuInstanceWithPlacement(
        device: nvmlDevice_t,
        profile_id: c_uint,
        placement: In<nvmlGpuInstancePlacement_t>,
        instance: Out<nvmlGpuInstance_t>,
    ) |nvml| {
        let nvmlGpuInstancePlacement_t { start, size } = placement.get()?;
        create(&nvml, device, profile_id, Some(Placement { start, size }), &instance)
    }

    fn nvmlGpuInstanceDestroy(instance: nvmlGpuInstance_t) |nvml| {
        let Object::GpuInstance(gpu, incarnation) = nvml.object(instance.addr())? else {
            return Err(Code::INVALID_ARGUMENT);
        };
        nvml.store.update(|state| {
            state.gpus.get_mut(gpu).ok_or(Code::INVALID_ARGUMENT)?.destroy_gpu_instance(incarnation)
        })
    }

    fn nvmlDeviceGetGpuInstances(
        device: nvmlDevice_t,
        profile_id: c_uint,
        instances: OutList<nvmlGpuInstance_t>,
        count: Out<c_uint>,
    ) |nvml| {
        let device = nvml.gpu(device.addr())?;
        let gpu = gpu_of(&device)?;
        gpu.enabled_profile(device.model(), profile_id)?;
        let of_profile = gpu.gpu_instances.iter().filter(|instance| instance.profile_id == profile_id);
        let handles: Vec<_> = of_profile.map(|instance| handle_of(&nvml, device.gpu, instance)).collect();
        instances.fill(&count, &handles)
    }

    fn nvmlDeviceGetGpuInstanceById(device: nvmlDevice_t, id: c_uint, instance: Out<nvmlGpuInstance_t>) |nvml| {
        let device = nvml.gpu(device.addr())?;
        let gpu = gpu_of(&device)?;
        if !gpu.mig_enabled {
            return Err(Code::NOT_SUPPORTED);
        }
        let found = gpu.gpu_instances.iter().find(|instance| instance.id == id).ok_or(Code::NOT_FOUND)?;
        instance.set(handle_of(&nvml, device.gpu, found))
    }

    fn nvmlGpuInstanceGetInfo(instance: nvmlGpuInstance_t, info: Out<nvmlGpuInstanceInfo_t>) |nvml| {
        let (device, instance) = nvml.gpu_instance(instance.addr())?;
        info.set(nvmlGpuInstanceInfo_t {
            device: pointer(nvml.handle_of(Object::Gpu(device.gpu))),
            id: instance.id,
            profileId: instance.profile_id,
            placement: nvmlGpuInstancePlacement_t { start: instance.start, size: instance.size },
        })
    }
}

/// Returns the handle of a GPU instance.
pub(super) fn handle_of(nvml: &Session, gpu: usize, instance: &GpuInstance) -> nvmlGpuInstance_t {
    let incarnation = Incarnation { id: instance.id, generation: instance.generation };
    pointer(nvml.handle_of(Object::GpuInstance(gpu, incarnation)))
}

fn gpu_of<'a>(device: &'a Device<'_>) -> Result<&'a GpuState, Code> {
    device.state.gpus.get(device.gpu).ok_or(Code::INVALID_ARGUMENT)
}

/// Returns the profile with a number `NVML_GPU_INSTANCE_PROFILE_*`. It is also available with MIG mode off, as on
/// real GPUs.
fn enumerated(device: &Device<'_>, enumeration: c_uint) -> Result<&'static GpuProfile, Code> {
    if enumeration >= PROFILE_COUNT {
        return Err(Code::INVALID_ARGUMENT);
    }
    device.model().profile_by_enumeration(enumeration).ok_or(Code::NOT_SUPPORTED)
}

fn possible_placements(
    device: &Device<'_>,
    profile_id: c_uint,
) -> Result<Vec<nvmlGpuInstancePlacement_t>, Code> {
    let profile = gpu_of(device)?.enabled_profile(device.model(), profile_id)?;
    let placements = profile.placements().into_iter();
    Ok(placements.map(|Placement { start, size }| nvmlGpuInstancePlacement_t { start, size }).collect())
}

fn create(
    nvml: &Session,
    device: nvmlDevice_t,
    profile_id: c_uint,
    placement: Option<Placement>,
    out: &Out<nvmlGpuInstance_t>,
) -> Result<(), Code> {
    let device = nvml.gpu(device.addr())?;
    // A null pointer is refused before the effect.
    out.set(std::ptr::null_mut())?;
    let instance = nvml.store.update(|state| {
        let generation = state.generation();
        let gpu = state.gpus.get_mut(device.gpu).ok_or(Code::INVALID_ARGUMENT)?;
        gpu.create_gpu_instance(device.model(), profile_id, placement, generation)
    })?;
    out.set(handle_of(nvml, device.gpu, &instance))
}

/// Fills the version of the struct that the caller uses: 2 or 3.
fn profile_info(profile: &GpuProfile, info: &Versioned) -> Result<(), Code> {
    let name = c_array(&format!("MIG {}", profile.name));
    if info.is::<nvmlGpuInstanceProfileInfo_v3_t>(3)? {
        return info.set(
            3,
            nvmlGpuInstanceProfileInfo_v3_t {
                version: version_of::<nvmlGpuInstanceProfileInfo_v3_t>(3),
                id: profile.id,
                sliceCount: profile.compute_slices,
                instanceCount: profile.max_instances,
                multiprocessorCount: profile.multiprocessors,
                copyEngineCount: profile.copy_engines,
                decoderCount: profile.decoders,
                encoderCount: 0,
                jpegCount: profile.jpeg_engines,
                ofaCount: profile.ofa_engines,
                memorySizeMB: profile.memory_mib,
                name,
                capabilities: 0,
            },
        );
    }
    info.set(
        2,
        nvmlGpuInstanceProfileInfo_v2_t {
            version: version_of::<nvmlGpuInstanceProfileInfo_v2_t>(2),
            id: profile.id,
            isP2pSupported: 0,
            sliceCount: profile.compute_slices,
            instanceCount: profile.max_instances,
            multiprocessorCount: profile.multiprocessors,
            copyEngineCount: profile.copy_engines,
            decoderCount: profile.decoders,
            encoderCount: 0,
            jpegCount: profile.jpeg_engines,
            ofaCount: profile.ofa_engines,
            memorySizeMB: profile.memory_mib,
            name,
        },
    )
}
