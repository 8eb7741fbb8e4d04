//! Devices: finding them, and their properties. A MIG device is a device too, where NVML says so.

use std::ffi::{c_int, c_uint};
use std::ptr::with_exposed_provenance_mut as pointer;

use nvml_wrapper_sys::bindings as sys;
use sys::{nvmlDevice_t, nvmlMemory_t, nvmlMemory_v2_t, nvmlPciInfo_t, nvmlPciInfoExt_v1_t};

use super::nvml;
use super::pointer::{InText, Out, OutText, Versioned, c_array, version_of};
use crate::code::Code;
use crate::handles::Object;
use crate::session::{Device, Session};
use crate::topology::PciAddress;

nvml! {
    fn nvmlDeviceGetCount(count: Out<c_uint>) |nvml| {
        count.set(nvml.store.boards().len() as c_uint)
    }

    fn nvmlDeviceGetCount_v2(count: Out<c_uint>) |nvml| {
        count.set(nvml.store.boards().len() as c_uint)
    }

    fn nvmlDeviceGetHandleByIndex(index: c_uint, device: Out<nvmlDevice_t>) |nvml| {
        by_index(&nvml, index, &device)
    }

    fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: Out<nvmlDevice_t>) |nvml| {
        by_index(&nvml, index, &device)
    }

    /// Accepts UUIDs of GPUs and of MIG devices.
    fn nvmlDeviceGetHandleByUUID(uuid: InText, device: Out<nvmlDevice_t>) |nvml| {
        let uuid = uuid.get()?;
        let state = nvml.store.read()?;
        if let Some(gpu) = state.gpus.iter().position(|gpu| gpu.uuid == uuid) {
            return device.set(pointer(nvml.handle_of(Object::Gpu(gpu))));
        }
        for (gpu, of_gpu) in state.gpus.iter().enumerate() {
            if let Some((parent, instance)) = of_gpu.mig_devices().find(|(_, instance)| instance.uuid == uuid) {
                return device.set(pointer(nvml.mig_handle(gpu, parent, instance)));
            }
        }
        Err(Code::NOT_FOUND)
    }

    fn nvmlDeviceGetHandleByPciBusId(bus_id: InText, device: Out<nvmlDevice_t>) |nvml| {
        by_bus_id(&nvml, &bus_id, &device)
    }

    fn nvmlDeviceGetHandleByPciBusId_v2(bus_id: InText, device: Out<nvmlDevice_t>) |nvml| {
        by_bus_id(&nvml, &bus_id, &device)
    }

    fn nvmlDeviceGetHandleBySerial(serial: InText, device: Out<nvmlDevice_t>) |nvml| {
        let serial = serial.get()?;
        let gpu = nvml.store.boards().iter().position(|board| board.serial == serial).ok_or(Code::NOT_FOUND)?;
        device.set(pointer(nvml.handle_of(Object::Gpu(gpu))))
    }

    fn nvmlDeviceGetName(device: nvmlDevice_t, name: OutText, length: c_uint) |nvml| {
        name.set(length, &nvml.device(device.addr())?.name())
    }

    fn nvmlDeviceGetUUID(device: nvmlDevice_t, uuid: OutText, length: c_uint) |nvml| {
        uuid.set(length, nvml.device(device.addr())?.uuid())
    }

    /// For a MIG device, returns the index for nvmlDeviceGetMigDeviceHandleByIndex.
    fn nvmlDeviceGetIndex(device: nvmlDevice_t, index: Out<c_uint>) |nvml| {
        let device = nvml.device(device.addr())?;
        let Some((_, instance)) = &device.mig else { return index.set(device.gpu as c_uint) };
        let gpu = device.state.gpus.get(device.gpu).ok_or(Code::INVALID_ARGUMENT)?;
        let at = gpu.mig_devices().position(|(_, other)| other.generation == instance.generation);
        index.set(at.ok_or(Code::INVALID_ARGUMENT)? as c_uint)
    }

    fn nvmlDeviceGetMinorNumber(device: nvmlDevice_t, minor: Out<c_uint>) |nvml| {
        minor.set(nvml.gpu(device.addr())?.board.minor)
    }

    fn nvmlDeviceGetSerial(device: nvmlDevice_t, serial: OutText, length: c_uint) |nvml| {
        serial.set(length, &nvml.device(device.addr())?.board.serial)
    }

    fn nvmlDeviceGetBrand(device: nvmlDevice_t, brand: Out<c_uint>) |nvml| {
        nvml.device(device.addr())?;
        brand.set(sys::nvmlBrandType_enum_NVML_BRAND_NVIDIA)
    }

    fn nvmlDeviceGetArchitecture(device: nvmlDevice_t, architecture: Out<c_uint>) |nvml| {
        architecture.set(nvml.device(device.addr())?.model().architecture as c_uint)
    }

    fn nvmlDeviceGetCudaComputeCapability(device: nvmlDevice_t, major: Out<c_int>, minor: Out<c_int>) |nvml| {
        let capability = nvml.device(device.addr())?.model().compute_capability;
        major.set(capability.0)?;
        minor.set(capability.1)
    }

    fn nvmlDeviceGetPciInfo(device: nvmlDevice_t, info: Out<nvmlPciInfo_t>) |nvml| {
        info.set(pci_info(&nvml.device(device.addr())?))
    }

    fn nvmlDeviceGetPciInfo_v2(device: nvmlDevice_t, info: Out<nvmlPciInfo_t>) |nvml| {
        info.set(pci_info(&nvml.device(device.addr())?))
    }

    fn nvmlDeviceGetPciInfo_v3(device: nvmlDevice_t, info: Out<nvmlPciInfo_t>) |nvml| {
        info.set(pci_info(&nvml.device(device.addr())?))
    }

    fn nvmlDeviceGetPciInfoExt(device: nvmlDevice_t, info: Versioned) |nvml| {
        let plain = pci_info(&nvml.device(device.addr())?);
        info.set(1, nvmlPciInfoExt_v1_t {
            version: version_of::<nvmlPciInfoExt_v1_t>(1),
            domain: plain.domain,
            bus: plain.bus,
            device: plain.device,
            pciDeviceId: plain.pciDeviceId,
            pciSubSystemId: plain.pciSubSystemId,
            // 3D controller.
            baseClass: 3,
            subClass: 2,
            busId: plain.busId,
        })
    }

    fn nvmlDeviceGetMemoryInfo(device: nvmlDevice_t, memory: Out<nvmlMemory_t>) |nvml| {
        let total = nvml.device(device.addr())?.memory_bytes();
        memory.set(nvmlMemory_t { total, free: total, used: 0 })
    }

    fn nvmlDeviceGetMemoryInfo_v2(device: nvmlDevice_t, memory: Versioned) |nvml| {
        let total = nvml.device(device.addr())?.memory_bytes();
        let version = version_of::<nvmlMemory_v2_t>(2);
        memory.set(2, nvmlMemory_v2_t { version, total, reserved: 0, free: total, used: 0 })
    }
}

fn by_index(nvml: &Session, index: c_uint, device: &Out<nvmlDevice_t>) -> Result<(), Code> {
    let gpu = index as usize;
    if gpu >= nvml.store.boards().len() {
        return Err(Code::INVALID_ARGUMENT);
    }
    device.set(pointer(nvml.handle_of(Object::Gpu(gpu))))
}

fn by_bus_id(nvml: &Session, bus_id: &InText, device: &Out<nvmlDevice_t>) -> Result<(), Code> {
    let wanted = PciAddress::parse(&bus_id.get()?).ok_or(Code::INVALID_ARGUMENT)?;
    let gpu = nvml.store.boards().iter().position(|board| board.bus == wanted).ok_or(Code::NOT_FOUND)?;
    device.set(pointer(nvml.handle_of(Object::Gpu(gpu))))
}

/// Returns the PCI data of the GPU, also for a MIG device.
fn pci_info(device: &Device<'_>) -> nvmlPciInfo_t {
    let PciAddress { domain, bus, device: slot } = device.board.bus;
    nvmlPciInfo_t {
        busIdLegacy: c_array(&format!("{domain:04X}:{bus:02X}:{slot:02X}.0")),
        domain,
        bus,
        device: slot,
        pciDeviceId: device.model().pci_device_id,
        // The subsystem id of simulated boards is the GPU's own id.
        pciSubSystemId: device.model().pci_device_id,
        busId: c_array(&device.board.bus.to_string()),
    }
}
