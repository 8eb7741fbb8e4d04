//! NVML's functions that nvml-wrapper has not, or has wrongly, as safe Rust functions: the devices' part.
//!
//! `possible_placements` of nvml-wrapper 0.13 always answers an empty list, and its error type knows no
//! return code above 22, so both are done here. Together with its siblings `raw_instances` and
//! `raw_events` this is the only unsafe code of the driver.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_uint};

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings::{
    NvmlLib, nvmlDevice_t, nvmlGpuInstancePlacement_t, nvmlGpuInstanceProfileInfo_t,
    nvmlGpuInstanceProfileInfo_v2_t, nvmlReturn_t,
};

use crate::gpus::Reason;

/// A failed call: NVML's name of it, and why.
pub(super) type Failure = (&'static str, Reason);

/// Most instances of one profile on one GPU, with room to spare: a GPU has at most 8 slices.
pub(super) const MAX_INSTANCES: usize = 32;

/// Length of a UUID's buffer in bytes (`NVML_DEVICE_UUID_V2_BUFFER_SIZE`).
const UUID_BYTES: usize = 96;

/// A GPU or a MIG device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DeviceHandle(pub(super) nvmlDevice_t);

// SAFETY: NVML documents its API as thread-safe, and device handles as valid until shutdown; a handle lives
// in the session that it is of (see `session`). The pointer is only ever handed back to NVML.
unsafe impl Send for DeviceHandle {}
// SAFETY: as above.
unsafe impl Sync for DeviceHandle {}

/// A GPU-instance profile as NVML describes it.
#[derive(Debug, Clone)]
pub(super) struct ProfileInfo {
    /// Id that create takes.
    pub(super) id: u32,
    /// Compute slices.
    pub(super) slices: u32,
    /// Most instances on an empty GPU.
    pub(super) max_instances: u32,
    /// Streaming multiprocessors.
    pub(super) multiprocessors: u32,
    /// Memory, MiB.
    pub(super) memory_mib: u64,
    /// Name, where the library is new enough to tell it.
    pub(super) name: Option<String>,
}

/// Handle of a wrapped device. It stays valid as long as the library is initialised.
pub(super) fn handle(device: &Device<'_>) -> DeviceHandle {
    // SAFETY: the handle is only passed to NVML, by the session that it is of.
    DeviceHandle(unsafe { device.handle() })
}

/// The library's function, or that it has none of that name.
pub(super) fn symbol<'a, F, E>(call: &'static str, loaded: &'a Result<F, E>) -> Result<&'a F, Failure> {
    loaded.as_ref().map_err(|_| (call, Reason::FunctionMissing))
}

/// NVML's return code as a result.
pub(super) fn check(call: &'static str, code: nvmlReturn_t) -> Result<(), Failure> {
    match code {
        0 => Ok(()),
        code => Err((call, reason(code))),
    }
}

/// NVML's return code other than success.
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

/// An error of nvml-wrapper in our terms; 999 (unknown error) for what has no return code.
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

/// The device in nvml-wrapper's terms, as long as its library is open.
pub(super) fn device(nvml: &Nvml, handle: DeviceHandle) -> Device<'_> {
    // SAFETY: the handle was given by this library, which is open as long as `nvml` lives.
    unsafe { Device::new(handle.0, nvml) }
}

/// A C string in a buffer that NVML filled; text up to the first zero.
pub(super) fn text(buffer: &[c_char]) -> String {
    let bytes: Vec<u8> = buffer.iter().map(|byte| byte.to_ne_bytes()[0]).chain([0]).collect();
    CStr::from_bytes_until_nul(&bytes).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}

/// UUID of a GPU or of a MIG device.
pub(super) fn uuid(lib: &NvmlLib, device: DeviceHandle) -> Result<String, Failure> {
    const CALL: &str = "nvmlDeviceGetUUID";
    let function = symbol(CALL, &lib.nvmlDeviceGetUUID)?;
    let mut buffer: [c_char; UUID_BYTES] = [0; UUID_BYTES];
    // SAFETY: the handle is NVML's own, the buffer is as long as is said.
    check(CALL, unsafe { function(device.0, buffer.as_mut_ptr(), UUID_BYTES as c_uint) })?;
    Ok(text(&buffer))
}

/// The profile that NVML keeps under enumeration value `profile` (not its id).
///
/// [`Reason::InvalidArgument`] ends the enumeration, [`Reason::NotSupported`] is a gap in it.
pub(super) fn gpu_instance_profile(
    lib: &NvmlLib,
    device: DeviceHandle,
    profile: u32,
) -> Result<ProfileInfo, Failure> {
    match profile_with_name(lib, device, profile) {
        // Drivers before 515 do not know names; code 25 is a version of the structure they do not know.
        Err((_, Reason::FunctionMissing | Reason::Other(25))) => profile_without_name(lib, device, profile),
        answer => answer,
    }
}

fn profile_with_name(lib: &NvmlLib, device: DeviceHandle, profile: u32) -> Result<ProfileInfo, Failure> {
    const CALL: &str = "nvmlDeviceGetGpuInstanceProfileInfoV";
    let function = symbol(CALL, &lib.nvmlDeviceGetGpuInstanceProfileInfoV)?;
    // SAFETY: a C structure of integers and characters, for which zeroes are a valid value.
    let mut info: nvmlGpuInstanceProfileInfo_v2_t = unsafe { std::mem::zeroed() };
    // NVML's version word: size of the structure, and its version in the top byte.
    info.version = (size_of::<nvmlGpuInstanceProfileInfo_v2_t>() as c_uint) | (2 << 24);
    // SAFETY: the handle is NVML's own, the structure is of the version that it says.
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
    // SAFETY: the handle is NVML's own, the structure is what the function fills.
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

/// Where a GPU instance of the profile with that id may lie: pairs of start and size, memory slices.
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
