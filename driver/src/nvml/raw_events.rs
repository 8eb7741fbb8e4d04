//! Safe wrappers of NVML's events. Those of nvml-wrapper drop the ids of the instances in which an event happened,
//! which distinguish the slices.
#![allow(unsafe_code)]

use std::ffi::{c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{NvmlLib, nvmlEventData_t, nvmlEventSet_t};

use super::raw::{DeviceHandle, Failure, check, symbol};

/// `nvmlEventTypeXidCriticalError`.
const XID_CRITICAL_ERROR: c_ulonglong = 8;
/// `NVML_ERROR_TIMEOUT`.
const TIMEOUT: c_uint = 10;
/// Instance id of an event that concerns the whole GPU.
const WHOLE_GPU: c_uint = 0xFFFF_FFFF;

/// Set of registered events. It is never freed, because it lives as long as the process.
#[derive(Debug)]
pub(super) struct EventSet(nvmlEventSet_t);

// SAFETY: NVML documents its API as thread-safe; the pointer is only passed back to NVML.
unsafe impl Send for EventSet {}

/// XID event as NVML reports it.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawXidEvent {
    pub(super) device: DeviceHandle,
    pub(super) xid: u64,
    pub(super) gpu_instance: Option<u32>,
}

/// Creates an empty set.
pub(super) fn create(lib: &NvmlLib) -> Result<EventSet, Failure> {
    const CALL: &str = "nvmlEventSetCreate";
    let function = symbol(CALL, &lib.nvmlEventSetCreate)?;
    let mut set: nvmlEventSet_t = std::ptr::null_mut();
    // SAFETY: NVML writes one handle.
    check(CALL, unsafe { function(&raw mut set) })?;
    Ok(EventSet(set))
}

/// Registers a set for the critical errors of a GPU.
pub(super) fn register(lib: &NvmlLib, set: &EventSet, device: DeviceHandle) -> Result<(), Failure> {
    const CALL: &str = "nvmlDeviceRegisterEvents";
    let function = symbol(CALL, &lib.nvmlDeviceRegisterEvents)?;
    // SAFETY: both handles are NVML's own.
    check(CALL, unsafe { function(device.0, XID_CRITICAL_ERROR, set.0) })
}

/// Waits for an event; `None` after `timeout_ms` milliseconds.
pub(super) fn wait(lib: &NvmlLib, set: &EventSet, timeout_ms: u32) -> Result<Option<RawXidEvent>, Failure> {
    const CALL: &str = "nvmlEventSetWait_v2";
    let function = symbol(CALL, &lib.nvmlEventSetWait_v2)?;
    // SAFETY: a C structure of integers and a pointer, for which zeroes are a valid value.
    let mut data: nvmlEventData_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is NVML's own, and the function fills this structure.
    let code = unsafe { function(set.0, &raw mut data, timeout_ms) };
    if code == TIMEOUT {
        return Ok(None);
    }
    check(CALL, code)?;
    Ok(Some(RawXidEvent {
        device: DeviceHandle(data.device),
        xid: data.eventData,
        gpu_instance: (data.gpuInstanceId != WHOLE_GPU).then_some(data.gpuInstanceId),
    }))
}
