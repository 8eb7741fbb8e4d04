//! Compute instances: profiles, placements, creation, destruction.

use std::ffi::c_uint;
use std::ptr::with_exposed_provenance_mut as pointer;

use nvml_wrapper_sys::bindings as sys;
use sys::{nvmlComputeInstance_t, nvmlComputeInstanceInfo_t, nvmlComputeInstancePlacement_t};
use sys::{nvmlComputeInstanceProfileInfo_t, nvmlComputeInstanceProfileInfo_v2_t};
use sys::{nvmlComputeInstanceProfileInfo_v3_t, nvmlGpuInstance_t};

use super::pointer::{In, Out, OutList, Versioned, c_array, version_of};
use super::{gpu_instance, nvml};
use crate::code::Code;
use crate::geometry::{ComputeProfile, GpuProfile, Placement};
use crate::handles::Object;
use crate::mig::Incarnation;
use crate::session::{Device, Session};
use crate::state::{ComputeInstance, GpuInstance};
use crate::topology::UuidMode;

/// `NVML_COMPUTE_INSTANCE_PROFILE_COUNT` of the newest headers. Profile numbers below it are valid.
const PROFILE_COUNT: c_uint = 9;

nvml! {
    fn nvmlGpuInstanceGetComputeInstanceProfileInfo(
        instance: nvmlGpuInstance_t,
        profile: c_uint,
        engine_profile: c_uint,
        info: Out<nvmlComputeInstanceProfileInfo_t>,
    ) |nvml| {
        let (gpu, compute) = profile_of(&nvml, instance, profile, engine_profile)?;
        info.set(nvmlComputeInstanceProfileInfo_t {
            id: compute.id,
            sliceCount: compute.slices,
            instanceCount: compute.placements.len() as c_uint,
            multiprocessorCount: compute.multiprocessors,
            sharedCopyEngineCount: gpu.copy_engines,
            sharedDecoderCount: gpu.decoders,
            sharedEncoderCount: 0,
            sharedJpegCount: gpu.jpeg_engines,
            sharedOfaCount: gpu.ofa_engines,
        })
    }

    fn nvmlGpuInstanceGetComputeInstanceProfileInfoV(
        instance: nvmlGpuInstance_t,
        profile: c_uint,
        engine_profile: c_uint,
        info: Versioned,
    ) |nvml| {
        let (gpu, compute) = profile_of(&nvml, instance, profile, engine_profile)?;
        profile_info(gpu, &compute, &info)
    }

    fn nvmlGpuInstanceGetComputeInstancePossiblePlacements(
        instance: nvmlGpuInstance_t,
        profile_id: c_uint,
        placements: OutList<nvmlComputeInstancePlacement_t>,
        count: Out<c_uint>,
    ) |nvml| {
        let (device, instance) = nvml.gpu_instance(instance.addr())?;
        let profile = instance.compute_profile(device.model(), profile_id)?;
        let possible = profile.placements.iter();
        let possible: Vec<_> =
            possible.map(|&Placement { start, size }| nvmlComputeInstancePlacement_t { start, size }).collect();
        placements.fill(&count, &possible)
    }

    fn nvmlGpuInstanceGetComputeInstanceRemainingCapacity(
        instance: nvmlGpuInstance_t,
        profile_id: c_uint,
        count: Out<c_uint>,
    ) |nvml| {
        let (device, instance) = nvml.gpu_instance(instance.addr())?;
        count.set(instance.remaining_capacity(&instance.compute_profile(device.model(), profile_id)?))
    }

    fn nvmlGpuInstanceCreateComputeInstance(
        instance: nvmlGpuInstance_t,
        profile_id: c_uint,
        compute_instance: Out<nvmlComputeInstance_t>,
    ) |nvml| {
        create(&nvml, instance, (profile_id, None), &compute_instance)
    }

    fn nvmlGpuInstanceCreateComputeInstanceWithPlacement(
        instance: nvmlGpuInstance_t,
        profile_id: c_uint,
        placement: In<nvmlComputeInstancePlacement_t>,
        compute_instance: Out<nvmlComputeInstance_t>,
    ) |nvml| {
        let nvmlComputeInstancePlacement_t { start, size } = placement.get()?;
        create(&nvml, instance, (profile_id, Some(Placement { start, size })), &compute_instance)
    }

    fn nvmlComputeInstanceDestroy(compute_instance: nvmlComputeInstance_t) |nvml| {
        let Object::ComputeInstance(gpu, parent, incarnation) = nvml.object(compute_instance.addr())? else {
            return Err(Code::INVALID_ARGUMENT);
        };
        nvml.store.update(|state| {
            let gpu = state.gpus.get_mut(gpu).ok_or(Code::INVALID_ARGUMENT)?;
            gpu.destroy_compute_instance(parent, incarnation)
        })
    }

    fn nvmlGpuInstanceGetComputeInstances(
        instance: nvmlGpuInstance_t,
        profile_id: c_uint,
        compute_instances: OutList<nvmlComputeInstance_t>,
        count: Out<c_uint>,
    ) |nvml| {
        let (device, instance) = nvml.gpu_instance(instance.addr())?;
        instance.compute_profile(device.model(), profile_id)?;
        let of_profile = instance.compute_instances.iter().filter(|compute| compute.profile_id == profile_id);
        let handles: Vec<_> = of_profile.map(|compute| handle_of(&nvml, device.gpu, &instance, compute)).collect();
        compute_instances.fill(&count, &handles)
    }

    fn nvmlGpuInstanceGetComputeInstanceById(
        instance: nvmlGpuInstance_t,
        id: c_uint,
        compute_instance: Out<nvmlComputeInstance_t>,
    ) |nvml| {
        let (device, instance) = nvml.gpu_instance(instance.addr())?;
        let found = instance.compute_instances.iter().find(|compute| compute.id == id).ok_or(Code::NOT_FOUND)?;
        compute_instance.set(handle_of(&nvml, device.gpu, &instance, found))
    }

    /// Does as version 2, but `device` is the GPU.
    fn nvmlComputeInstanceGetInfo(
        compute_instance: nvmlComputeInstance_t,
        info: Out<nvmlComputeInstanceInfo_t>,
    ) |nvml| {
        let (gpu, parent, instance) = existing(&nvml, compute_instance)?;
        info.set(info_of(&nvml, nvml.handle_of(Object::Gpu(gpu)), gpu, &parent, &instance))
    }

    /// Sets `device` to the MIG device.
    fn nvmlComputeInstanceGetInfo_v2(
        compute_instance: nvmlComputeInstance_t,
        info: Out<nvmlComputeInstanceInfo_t>,
    ) |nvml| {
        let (gpu, parent, instance) = existing(&nvml, compute_instance)?;
        info.set(info_of(&nvml, nvml.mig_handle(gpu, &parent, &instance), gpu, &parent, &instance))
    }
}

fn handle_of(
    nvml: &Session,
    gpu: usize,
    parent: &GpuInstance,
    instance: &ComputeInstance,
) -> nvmlComputeInstance_t {
    let incarnation = Incarnation { id: instance.id, generation: instance.generation };
    pointer(nvml.handle_of(Object::ComputeInstance(gpu, parent.id, incarnation)))
}

/// Returns GPU index, GPU instance and compute instance of a handle, if they exist now.
fn existing(
    nvml: &Session,
    handle: nvmlComputeInstance_t,
) -> Result<(usize, GpuInstance, ComputeInstance), Code> {
    let Object::ComputeInstance(gpu, parent, wanted) = nvml.object(handle.addr())? else {
        return Err(Code::INVALID_ARGUMENT);
    };
    let state = nvml.store.read()?;
    let mut devices = state.gpus.get(gpu).ok_or(Code::INVALID_ARGUMENT)?.mig_devices();
    let found = devices.find(|(owner, compute)| {
        owner.id == parent && compute.id == wanted.id && compute.generation == wanted.generation
    });
    found.map(|(owner, compute)| (gpu, owner.clone(), compute.clone())).ok_or(Code::INVALID_ARGUMENT)
}

fn info_of(
    nvml: &Session,
    device: usize,
    gpu: usize,
    parent: &GpuInstance,
    instance: &ComputeInstance,
) -> nvmlComputeInstanceInfo_t {
    nvmlComputeInstanceInfo_t {
        device: pointer(device),
        gpuInstance: gpu_instance::handle_of(nvml, gpu, parent),
        id: instance.id,
        profileId: instance.profile_id,
        placement: nvmlComputeInstancePlacement_t { start: instance.start, size: instance.size },
    }
}

fn profile_of(
    nvml: &Session,
    instance: nvmlGpuInstance_t,
    enumeration: c_uint,
    engine_profile: c_uint,
) -> Result<(&'static GpuProfile, ComputeProfile), Code> {
    let (device, instance): (Device<'_>, GpuInstance) = nvml.gpu_instance(instance.addr())?;
    // There is one engine profile: all engines are shared.
    if enumeration >= PROFILE_COUNT || engine_profile != sys::NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED {
        return Err(Code::INVALID_ARGUMENT);
    }
    let gpu = device.model().profile(instance.profile_id).ok_or(Code::UNKNOWN)?;
    let compute = ComputeProfile::find(device.model(), gpu, enumeration).ok_or(Code::NOT_SUPPORTED)?;
    Ok((gpu, compute))
}

fn create(
    nvml: &Session,
    parent: nvmlGpuInstance_t,
    wanted: (c_uint, Option<Placement>),
    out: &Out<nvmlComputeInstance_t>,
) -> Result<(), Code> {
    let Object::GpuInstance(gpu, incarnation) = nvml.object(parent.addr())? else {
        return Err(Code::INVALID_ARGUMENT);
    };
    // A null pointer is refused before the effect.
    out.set(std::ptr::null_mut())?;
    let model = nvml.store.boards().get(gpu).ok_or(Code::INVALID_ARGUMENT)?.model;
    let salt = match nvml.topology.uuid_mode {
        UuidMode::Deterministic => None,
        UuidMode::Random => Some(uuid::Uuid::new_v4().as_u128()),
    };
    let (parent, instance) = nvml.store.update(|state| {
        let generation = state.generation();
        let gpu = state.gpus.get_mut(gpu).ok_or(Code::INVALID_ARGUMENT)?;
        let instance = gpu.create_compute_instance(model, incarnation, wanted, generation, salt)?;
        Ok::<_, Code>((gpu.gpu_instance(incarnation)?.clone(), instance))
    })?;
    out.set(handle_of(nvml, gpu, &parent, &instance))
}

/// Fills the version of the struct that the caller uses: 2 or 3.
fn profile_info(gpu: &GpuProfile, compute: &ComputeProfile, info: &Versioned) -> Result<(), Code> {
    let name = c_array(&format!("MIG {}", compute.name));
    if info.is::<nvmlComputeInstanceProfileInfo_v3_t>(3)? {
        return info.set(
            3,
            nvmlComputeInstanceProfileInfo_v3_t {
                version: version_of::<nvmlComputeInstanceProfileInfo_v3_t>(3),
                id: compute.id,
                sliceCount: compute.slices,
                instanceCount: compute.placements.len() as c_uint,
                multiprocessorCount: compute.multiprocessors,
                sharedCopyEngineCount: gpu.copy_engines,
                sharedDecoderCount: gpu.decoders,
                sharedEncoderCount: 0,
                sharedJpegCount: gpu.jpeg_engines,
                sharedOfaCount: gpu.ofa_engines,
                name,
                capabilities: 0,
            },
        );
    }
    info.set(
        2,
        nvmlComputeInstanceProfileInfo_v2_t {
            version: version_of::<nvmlComputeInstanceProfileInfo_v2_t>(2),
            id: compute.id,
            sliceCount: compute.slices,
            instanceCount: compute.placements.len() as c_uint,
            multiprocessorCount: compute.multiprocessors,
            sharedCopyEngineCount: gpu.copy_engines,
            sharedDecoderCount: gpu.decoders,
            sharedEncoderCount: 0,
            sharedJpegCount: gpu.jpeg_engines,
            sharedOfaCount: gpu.ofa_engines,
            name,
        },
    )
}
