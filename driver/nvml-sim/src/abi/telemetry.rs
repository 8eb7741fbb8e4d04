//! Telemetry: that of an idle GPU, at constant values.
//!
//! For a MIG device, the calls return NOT_SUPPORTED where the real ones do: utilisation, clocks, power and
//! temperature belong to the GPU.

use std::ffi::{c_int, c_uint, c_ulong, c_ulonglong};

use nvml_wrapper_sys::bindings as sys;
use sys::{nvmlBAR1Memory_t, nvmlDevice_t, nvmlFieldValue_t, nvmlProcessInfo_v1_t, nvmlProcessInfo_v2_t};
use sys::{nvmlGpmSupport_t, nvmlTemperature_v1_t, nvmlUtilization_t, nvmlValue_t};

use super::nvml;
use super::pointer::{Out, OutList, Versioned};
use crate::code::Code;
use crate::geometry::Architecture;
use crate::session::Session;

const IDLE_TEMPERATURE_C: c_int = 34;
const IDLE_POWER_MW: c_uint = 68_000;
/// Index of the memory clock among NVML's clock types: graphics, SM, memory, video.
const MEMORY_CLOCK: c_uint = 2;
const CLOCK_TYPES: c_uint = 4;
/// `NVML_FI_DEV_IS_RESETLESS_MIG_SUPPORTED`.
const FIELD_RESETLESS_MIG: c_uint = 184;

nvml! {
    fn nvmlDeviceGetUtilizationRates(device: nvmlDevice_t, utilization: Out<nvmlUtilization_t>) |nvml| {
        let device = nvml.gpu(device.addr())?;
        // A real GPU does not report this while MIG mode is on.
        if device.state.gpus.get(device.gpu).is_some_and(|gpu| gpu.mig_enabled) {
            return Err(Code::NOT_SUPPORTED);
        }
        utilization.set(nvmlUtilization_t { gpu: 0, memory: 0 })
    }

    fn nvmlDeviceGetEncoderUtilization(device: nvmlDevice_t, percent: Out<c_uint>, period_us: Out<c_uint>) |nvml| {
        nvml.gpu(device.addr())?;
        percent.set(0)?;
        period_us.set(167_000)
    }

    fn nvmlDeviceGetDecoderUtilization(device: nvmlDevice_t, percent: Out<c_uint>, period_us: Out<c_uint>) |nvml| {
        nvml.gpu(device.addr())?;
        percent.set(0)?;
        period_us.set(167_000)
    }

    fn nvmlDeviceGetTemperature(device: nvmlDevice_t, _sensor: c_uint, celsius: Out<c_uint>) |nvml| {
        nvml.gpu(device.addr())?;
        celsius.set(IDLE_TEMPERATURE_C as c_uint)
    }

    fn nvmlDeviceGetTemperatureV(device: nvmlDevice_t, temperature: Versioned) |nvml| {
        nvml.gpu(device.addr())?;
        let asked: nvmlTemperature_v1_t = temperature.get(1)?;
        temperature.set(1, nvmlTemperature_v1_t { temperature: IDLE_TEMPERATURE_C, ..asked })
    }

    fn nvmlDeviceGetPowerUsage(device: nvmlDevice_t, milliwatts: Out<c_uint>) |nvml| {
        nvml.gpu(device.addr())?;
        milliwatts.set(IDLE_POWER_MW)
    }

    fn nvmlDeviceGetPowerManagementLimit(device: nvmlDevice_t, milliwatts: Out<c_uint>) |nvml| {
        milliwatts.set(nvml.gpu(device.addr())?.model().power_limit_mw)
    }

    fn nvmlDeviceGetEnforcedPowerLimit(device: nvmlDevice_t, milliwatts: Out<c_uint>) |nvml| {
        milliwatts.set(nvml.gpu(device.addr())?.model().power_limit_mw)
    }

    fn nvmlDeviceGetPerformanceState(device: nvmlDevice_t, state: Out<c_uint>) |nvml| {
        nvml.gpu(device.addr())?;
        state.set(0)
    }

    fn nvmlDeviceGetPersistenceMode(device: nvmlDevice_t, mode: Out<c_uint>) |nvml| {
        nvml.gpu(device.addr())?;
        mode.set(1)
    }

    fn nvmlDeviceGetComputeMode(device: nvmlDevice_t, mode: Out<c_uint>) |nvml| {
        nvml.device(device.addr())?;
        mode.set(0)
    }

    fn nvmlDeviceGetDisplayMode(device: nvmlDevice_t, mode: Out<c_uint>) |nvml| {
        nvml.gpu(device.addr())?;
        mode.set(0)
    }

    fn nvmlDeviceGetDisplayActive(device: nvmlDevice_t, active: Out<c_uint>) |nvml| {
        nvml.gpu(device.addr())?;
        active.set(0)
    }

    fn nvmlDeviceGetEccMode(device: nvmlDevice_t, current: Out<c_uint>, pending: Out<c_uint>) |nvml| {
        nvml.gpu(device.addr())?;
        current.set(1)?;
        pending.set(1)
    }

    fn nvmlDeviceGetTotalEccErrors(
        device: nvmlDevice_t,
        _error_type: c_uint,
        _counter_type: c_uint,
        count: Out<c_ulonglong>,
    ) |nvml| {
        nvml.gpu(device.addr())?;
        count.set(0)
    }

    fn nvmlDeviceGetRemappedRows(
        device: nvmlDevice_t,
        corrected: Out<c_uint>,
        uncorrected: Out<c_uint>,
        pending: Out<c_uint>,
        failed: Out<c_uint>,
    ) |nvml| {
        nvml.gpu(device.addr())?;
        [corrected, uncorrected, pending, failed].iter().try_for_each(|out| out.set(0))
    }

    fn nvmlDeviceGetClockInfo(device: nvmlDevice_t, clock: c_uint, mhz: Out<c_uint>) |nvml| {
        max_clock(&nvml, device, clock, &mhz)
    }

    fn nvmlDeviceGetMaxClockInfo(device: nvmlDevice_t, clock: c_uint, mhz: Out<c_uint>) |nvml| {
        max_clock(&nvml, device, clock, &mhz)
    }

    fn nvmlDeviceGetPcieThroughput(device: nvmlDevice_t, _counter: c_uint, kib_per_second: Out<c_uint>) |nvml| {
        nvml.gpu(device.addr())?;
        kib_per_second.set(0)
    }

    fn nvmlDeviceGetBAR1MemoryInfo(device: nvmlDevice_t, memory: Out<nvmlBAR1Memory_t>) |nvml| {
        // The window is as large as the memory, rounded up to a power of two.
        let total = nvml.device(device.addr())?.memory_bytes().next_power_of_two();
        memory.set(nvmlBAR1Memory_t { bar1Total: total, bar1Free: total, bar1Used: 0 })
    }

    fn nvmlDeviceGetCpuAffinity(device: nvmlDevice_t, words: c_uint, set: OutList<c_ulong>) |nvml| {
        nvml.gpu(device.addr())?;
        set.update(words as usize, |word| *word = c_ulong::MAX)
    }

    fn nvmlDeviceGetComputeRunningProcesses(
        device: nvmlDevice_t,
        count: Out<c_uint>,
        processes: OutList<nvmlProcessInfo_v1_t>,
    ) |nvml| {
        nvml.device(device.addr())?;
        processes.fill_within(&count, &[])
    }

    fn nvmlDeviceGetComputeRunningProcesses_v2(
        device: nvmlDevice_t,
        count: Out<c_uint>,
        processes: OutList<nvmlProcessInfo_v2_t>,
    ) |nvml| {
        nvml.device(device.addr())?;
        processes.fill_within(&count, &[])
    }

    fn nvmlDeviceGetComputeRunningProcesses_v3(
        device: nvmlDevice_t,
        count: Out<c_uint>,
        processes: OutList<nvmlProcessInfo_v2_t>,
    ) |nvml| {
        nvml.device(device.addr())?;
        processes.fill_within(&count, &[])
    }

    fn nvmlDeviceGetGraphicsRunningProcesses_v3(
        device: nvmlDevice_t,
        count: Out<c_uint>,
        processes: OutList<nvmlProcessInfo_v2_t>,
    ) |nvml| {
        nvml.device(device.addr())?;
        processes.fill_within(&count, &[])
    }

    fn nvmlDeviceGetMPSComputeRunningProcesses_v3(
        device: nvmlDevice_t,
        count: Out<c_uint>,
        processes: OutList<nvmlProcessInfo_v2_t>,
    ) |nvml| {
        nvml.device(device.addr())?;
        processes.fill_within(&count, &[])
    }

    /// Each field has its own return code, which is NOT_SUPPORTED for all but a few.
    fn nvmlDeviceGetFieldValues(device: nvmlDevice_t, count: c_int, values: OutList<nvmlFieldValue_t>) |nvml| {
        let device = nvml.device(device.addr())?;
        let count = usize::try_from(count).map_err(|_| Code::INVALID_ARGUMENT)?;
        let resetless = device.model().architecture != Architecture::Ampere;
        values.update(count, |field| {
            field.latencyUsec = 0;
            field.timestamp = 0;
            field.nvmlReturn = if field.fieldId == FIELD_RESETLESS_MIG { 0 } else { Code::NOT_SUPPORTED.0 };
            if field.nvmlReturn == 0 {
                field.valueType = sys::nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_INT;
                field.value = nvmlValue_t { uiVal: c_uint::from(resetless) };
            }
        })
    }

    /// Reports that simulated GPUs do not support GPM (performance metrics).
    fn nvmlGpmQueryDeviceSupport(device: nvmlDevice_t, support: Out<nvmlGpmSupport_t>) |nvml| {
        nvml.device(device.addr())?;
        // The version is the number of this struct alone, without its size.
        let asked = support.get()?;
        if asked.version != sys::NVML_GPM_SUPPORT_VERSION {
            return Err(Code::ARGUMENT_VERSION_MISMATCH);
        }
        support.set(nvmlGpmSupport_t { isSupportedDevice: 0, ..asked })
    }
}

/// Sets the maximum clock, at which simulated GPUs always run.
fn max_clock(nvml: &Session, device: nvmlDevice_t, clock: c_uint, mhz: &Out<c_uint>) -> Result<(), Code> {
    let (sm, memory) = nvml.gpu(device.addr())?.model().max_clock_mhz;
    if clock >= CLOCK_TYPES {
        return Err(Code::INVALID_ARGUMENT);
    }
    mhz.set(if clock == MEMORY_CLOCK { memory } else { sm })
}
