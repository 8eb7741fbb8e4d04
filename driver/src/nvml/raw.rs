//! Safe wrappers of NVML functions for devices that nvml-wrapper lacks or gets wrong.
//!
//! `possible_placements` of nvml-wrapper 0.13 always returns an empty list, and its error type has no return code
//! above 22. Together with `raw_instances` and `raw_events` this is the only unsafe code of the driver.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_uint};

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings::{
    NvmlLib, nvmlDevice_t, nvmlGpuInstancePlacement_t, nvmlGpuInstanceProfileInfo_t,
    nvmlGpuInstanceProfileInfo_v2_t, nvmlReturn_t,
};

use crate::gpus::Reason;

/// Failed call: name of the NVML function, and reason.
pub(super) type Failure = (&'static str, Reason);

/// Maximum instances of one profile on one GPU, with room to spare: a GPU has at most 8 slices.
pub(super) const MAX_INSTANCES: usize = 32;

/// Length of the buffer for a UUID in bytes (`NVML_DEVICE_UUID_V2_BUFFER_SIZE`).
const UUID_BYTES: usize = 96;

/// Handle of a GPU or a MIG device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DeviceHandle(pub(super) nvmlDevice_t);

// SAFETY: NVML documents its API as thread-safe, and device handles as valid until shutdown; a handle is part of the
// session that it comes from (see `session`). The pointer is only passed back to NVML.
unsafe impl Send for DeviceHandle {}
// SAFETY: as above.
unsafe impl Sync for DeviceHandle {}

/// GPU-instance profile as NVML describes it.
#[derive(Debug, Clone)]
pub(super) struct ProfileInfo {
    /// Id for creating instances.
    pub(super) id: u32,
    /// Number of compute slices.
    pub(super) slices: u32,
    /// Maximum instances on an empty GPU.
    pub(super) max_instances: u32,
    /// Number of streaming multiprocessors.
    pub(super) multiprocessors: u32,
    /// Memory in MiB.
    pub(super) memory_mib: u64,
    /// Name; `None` if the library is too old to report it.
    pub(super) name: Option<String>,
}

/// Returns the handle of a wrapped device. It stays valid as long as the library is initialised.
pub(super) fn handle(device: &Device<'_>) -> DeviceHandle {
    // SAFETY: the handle is only passed to NVML, by the session that it comes from.
    DeviceHandle(unsafe { device.handle() })
}

/// Returns a function of the library, or an error if the library does not have it.
pub(super) fn symbol<'a, F, E>(call: &'static str, loaded: &'a Result<F, E>) -> Result<&'a F, Failure> {
    loaded.as_ref().map_err(|_| (call, Reason::FunctionMissing))
}

/// Converts a return code of NVML to a result.
pub(super) fn check(call: &'static str, code: nvmlReturn_t) -> Result<(), Failure> {
    match code {
        0 => Ok(()),
        code => Err((call, reason(code))),
    }
}

/// Converts a return code other than success.
fn reason(code: nvmlReturn_t) -> Reason {
    match code {
        1 | 9 | 12 | 18 => Reason::DriverChanged(code),
        2 => Reason::InvalidArgument,
        3 => Reason::NotSupported,
        4 => Reason::NoPermission,
        6 => Reason::NotFound,
        13 => Reason::FunctionMissing,
        15 => Reason::Lost,
        16 => Reason::ResetRequired,
        19 => Reason::InUse,
        23 => Reason::Occupied,
        other => Reason::Other(other),
    }
}

/// Converts an error of nvml-wrapper. Errors without a return code become 999 (unknown error).
pub(super) fn wrapped(error: &NvmlError) -> Reason {
    reason(match error {
        NvmlError::Uninitialized => 1,
        NvmlError::InvalidArg => 2,
        NvmlError::NotSupported => 3,
        NvmlError::NoPermission => 4,
        NvmlError::NotFound => 6,
        NvmlError::DriverNotLoaded => 9,
        NvmlError::LibraryNotFound => 12,
        NvmlError::FunctionNotFound | NvmlError::FailedToLoadSymbol(_) => 13,
        NvmlError::GpuLost => 15,
        NvmlError::ResetRequired => 16,
        NvmlError::LibRmVersionMismatch => 18,
        NvmlError::InUse => 19,
        NvmlError::UnexpectedVariant(code) => *code,
        _ => 999,
    })
}

/// Returns the device as nvml-wrapper represents it.
pub(super) fn device(nvml: &Nvml, handle: DeviceHandle) -> Device<'_> {
    // SAFETY: the handle comes from this library, which is open as long as `nvml` lives.
    unsafe { Device::new(handle.0, nvml) }
}

/// Reads a C string from a buffer that NVML filled, up to the first zero.
pub(super) fn text(buffer: &[c_char]) -> String {
    let bytes: Vec<u8> = buffer.iter().map(|byte| byte.to_ne_bytes()[0]).chain([0]).collect();
    CStr::from_bytes_until_nul(&bytes).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Returns the UUID of a GPU or MIG device.
pub(super) fn uuid(lib: &NvmlLib, device: DeviceHandle) -> Result<String, Failure> {
    const CALL: &str = "nvmlDeviceGetUUID";
    let function = symbol(CALL, &lib.nvmlDeviceGetUUID)?;
    let mut buffer: [c_char; UUID_BYTES] = [0; UUID_BYTES];
    // SAFETY: the handle is NVML's own, and the buffer has the stated length.
    check(CALL, unsafe { function(device.0, buffer.as_mut_ptr(), UUID_BYTES as c_uint) })?;
    Ok(text(&buffer))
}

/// Returns the profile that NVML has under the enumeration value `profile`, which is not its id.
///
/// [`Reason::InvalidArgument`] ends the enumeration, [`Reason::NotSupported`] is a gap in it.
pub(super) fn gpu_instance_profile(
    lib: &NvmlLib,
    device: DeviceHandle,
    profile: u32,
) -> Result<ProfileInfo, Failure> {
    match profile_with_name(lib, device, profile) {
        // Drivers before 515 do not report names. Code 25 is an unknown version of the structure.
        Err((_, Reason::FunctionMissing | Reason::Other(25))) => profile_without_name(lib, device, profile),
        answer => answer,
    }
}

fn profile_with_name(lib: &NvmlLib, device: DeviceHandle, profile: u32) -> Result<ProfileInfo, Failure> {
    const CALL: &str = "nvmlDeviceGetGpuInstanceProfileInfoV";
    let function = symbol(CALL, &lib.nvmlDeviceGetGpuInstanceProfileInfoV)?;
    // SAFETY: a C structure of integers and characters, for which zeroes are a valid value.
    let mut info: nvmlGpuInstanceProfileInfo_v2_t = unsafe { std::mem::zeroed() };
    // Version word of NVML: size of the structure, and its version in the top byte.
    info.version = (size_of::<nvmlGpuInstanceProfileInfo_v2_t>() as c_uint) | (2 << 24);
    // SAFETY: the handle is NVML's own, and the structure has the stated version.
    check(CALL, unsafe { function(device.0, profile, &raw mut info) })?;
    Ok(ProfileInfo {
        id: info.id,
        slices: info.sliceCount,
        max_instances: info.instanceCount,
        multiprocessors: info.multiprocessorCount,
        memory_mib: info.memorySizeMB,
        name: Some(text(&info.name)),
    })
}

fn profile_without_name(lib: &NvmlLib, device: DeviceHandle, profile: u32) -> Result<ProfileInfo, Failure> {
    const CALL: &str = "nvmlDeviceGetGpuInstanceProfileInfo";
    let function = symbol(CALL, &lib.nvmlDeviceGetGpuInstanceProfileInfo)?;
    // SAFETY: a C structure of integers, for which zeroes are a valid value.
    let mut info: nvmlGpuInstanceProfileInfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: the handle is NVML's own, and the function fills this structure.
    check(CALL, unsafe { function(device.0, profile, &raw mut info) })?;
    Ok(ProfileInfo {
        id: info.id,
        slices: info.sliceCount,
        max_instances: info.instanceCount,
        multiprocessors: info.multiprocessorCount,
        memory_mib: info.memorySizeMB,
        name: None,
    })
}

/// Returns where a GPU instance of the profile with that id may be created: first memory slice and number of slices.
pub(super) fn possible_placements(
    lib: &NvmlLib,
    device: DeviceHandle,
    profile_id: u32,
) -> Result<Vec<(u32, u32)>, Failure> {
    const CALL: &str = "nvmlDeviceGetGpuInstancePossiblePlacements_v2";
    let function = symbol(CALL, &lib.nvmlDeviceGetGpuInstancePossiblePlacements_v2)?;
    let mut count: c_uint = 0;
    // SAFETY: a null buffer asks for the count alone.
    check(CALL, unsafe { function(device.0, profile_id, std::ptr::null_mut(), &raw mut count) })?;
    let mut buffer = vec![nvmlGpuInstancePlacement_t { start: 0, size: 0 }; count as usize];
    // SAFETY: the buffer has room for `count` placements.
    check(CALL, unsafe { function(device.0, profile_id, buffer.as_mut_ptr(), &raw mut count) })?;
    buffer.truncate(count as usize);
    Ok(buffer.iter().map(|placement| (placement.start, placement.size)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn return_codes_above_the_wrappers_are_told_apart() {
        assert_eq!(check("f", 0), Ok(()));
        assert_eq!(check("f", 23), Err(("f", Reason::Occupied)));
        assert_eq!(check("f", 19), Err(("f", Reason::InUse)));
        assert_eq!(check("f", 999), Err(("f", Reason::Other(999))));
    }

    #[test]
    fn text_ends_at_the_first_zero() {
        let buffer: Vec<c_char> = b"MIG 1g.5gb\0junk".iter().map(|byte| *byte as c_char).collect();
        assert_eq!(text(&buffer), "MIG 1g.5gb");
        assert_eq!(text(&[]), "");
    }
}
