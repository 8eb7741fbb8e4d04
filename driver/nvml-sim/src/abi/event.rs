//! Event sets: waiting for XIDs and changes of the MIG mode.

use std::ffi::{c_uint, c_ulonglong};
use std::ptr::with_exposed_provenance_mut as pointer;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nvml_wrapper_sys::bindings as sys;
use sys::{nvmlDevice_t, nvmlEventData_t, nvmlEventSet_t};

use super::nvml;
use super::pointer::Out;
use crate::code::Code;
use crate::handles::Object;
use crate::session::{self, Session, lock};
use crate::waiting::EventSet;

/// Period of polling for events of other processes.
const POLL: Duration = Duration::from_millis(5);

/// Event types that a simulated GPU can report.
const SUPPORTED: u64 = (sys::nvmlEventTypeSingleBitEccError
    | sys::nvmlEventTypeDoubleBitEccError
    | sys::nvmlEventTypeXidCriticalError
    | sys::nvmlEventMigConfigChange) as u64;

nvml! {
    fn nvmlDeviceGetSupportedEventTypes(device: nvmlDevice_t, types: Out<c_ulonglong>) |nvml| {
        nvml.gpu(device.addr())?;
        types.set(SUPPORTED)
    }

    fn nvmlEventSetCreate(set: Out<nvmlEventSet_t>) |nvml| {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        lock(&nvml.event_sets).insert(number, EventSet::default());
        set.set(pointer(nvml.handle_of(Object::EventSet(number))))
    }

    /// Accepts only whole GPUs, whose events name the instance.
    fn nvmlDeviceRegisterEvents(device: nvmlDevice_t, types: c_ulonglong, set: nvmlEventSet_t) |nvml| {
        let device = nvml.gpu(device.addr())?;
        if types & !SUPPORTED != 0 {
            return Err(Code::NOT_SUPPORTED);
        }
        let number = number_of(&nvml, set)?;
        let mut sets = lock(&nvml.event_sets);
        let set = sets.get_mut(&number).ok_or(Code::INVALID_ARGUMENT)?;
        set.register(&device.state, &device.board.uuid, types);
        Ok(())
    }

    /// Does as version 2, but without the ids of the instances.
    fn nvmlEventSetWait(set: nvmlEventSet_t, data: Out<nvmlEventData_t>, timeout_ms: c_uint) |nvml| {
        let event = wait(&nvml, set, timeout_ms)?;
        data.set(nvmlEventData_t { gpuInstanceId: 0, computeInstanceId: 0, ..event })
    }

    fn nvmlEventSetWait_v2(set: nvmlEventSet_t, data: Out<nvmlEventData_t>, timeout_ms: c_uint) |nvml| {
        data.set(wait(&nvml, set, timeout_ms)?)
    }

    fn nvmlEventSetFree(set: nvmlEventSet_t) |nvml| {
        let number = number_of(&nvml, set)?;
        lock(&nvml.event_sets).remove(&number).ok_or(Code::INVALID_ARGUMENT)?;
        lock(&nvml.handles).retire(set.addr());
        Ok(())
    }
}

fn number_of(nvml: &Session, set: nvmlEventSet_t) -> Result<u64, Code> {
    match nvml.object(set.addr())? {
        Object::EventSet(number) => Ok(number),
        _ => Err(Code::INVALID_ARGUMENT),
    }
}

/// Waits for the next event of the set. Returns TIMEOUT after `timeout_ms`, or UNINITIALIZED if the library is closed
/// meanwhile.
fn wait(nvml: &Session, set: nvmlEventSet_t, timeout_ms: c_uint) -> Result<nvmlEventData_t, Code> {
    let number = number_of(nvml, set)?;
    let deadline = Instant::now() + Duration::from_millis(timeout_ms.into());
    loop {
        let state = nvml.store.read()?;
        let event = lock(&nvml.event_sets).get_mut(&number).ok_or(Code::INVALID_ARGUMENT)?.next(&state);
        if let Some(event) = event {
            let gpu = state.gpus.iter().position(|gpu| gpu.uuid == event.gpu_uuid).ok_or(Code::UNKNOWN)?;
            return Ok(nvmlEventData_t {
                device: pointer(nvml.handle_of(Object::Gpu(gpu))),
                eventType: event.event_type,
                eventData: event.data,
                gpuInstanceId: event.gpu_instance_id,
                computeInstanceId: event.compute_instance_id,
            });
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Code::TIMEOUT);
        }
        std::thread::sleep(left.min(POLL));
        session::current()?;
    }
}
