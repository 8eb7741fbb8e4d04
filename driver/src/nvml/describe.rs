//! Description of a GPU as plain data.

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use sluice_inventory::{ComputeCapability, Gpu, MigProfile, Placement};

use super::raw::{self, Failure, ProfileInfo};
use super::session::KnownGpu;
use super::slice_number;
use crate::gpus::Reason;

/// Reads everything that is published of a GPU.
pub(super) fn gpu(nvml: &Nvml, known: &KnownGpu) -> Result<Gpu, Failure> {
    let device = &raw::device(nvml, known.handle);
    let failed = |fact| move |error: NvmlError| (fact, raw::wrapped(&error));
    let capability = device.cuda_compute_capability().map_err(failed("compute capability"))?;
    let memory_bytes = device.memory_info().map_err(failed("memory"))?.total;
    let compute_capability = ComputeCapability {
        major: u32::try_from(capability.major).unwrap_or(0),
        minor: u32::try_from(capability.minor).unwrap_or(0),
    };
    let mig_profiles = profiles(nvml, known, memory_bytes)?;
    Ok(Gpu {
        minor: device.minor_number().map_err(failed("minor number"))?,
        uuid: known.uuid.clone(),
        product: device.name().map_err(failed("name"))?,
        architecture: device
            .architecture()
            .map_or_else(|_| "Unknown".to_owned(), |architecture| format!("{architecture:?}")),
        compute_capability,
        driver_version: nvml.sys_driver_version().map_err(failed("driver version"))?,
        pci_bus_id: device.pci_info().map_err(failed("PCI address"))?.bus_id,
        memory_bytes,
        multiprocessors: multiprocessors(device, compute_capability, &mig_profiles),
        memory_slices: mig_profiles
            .iter()
            .flat_map(|profile| &profile.placements)
            .map(|placement| placement.slices().end)
            .max()
            .unwrap_or(0),
        mig_enabled: is_mig_enabled(device)?,
        mig_switchable: false,
        mig_profiles,
    })
}

/// Returns whether MIG mode is on now. It is off on a GPU that does not support MIG.
fn is_mig_enabled(device: &Device<'_>) -> Result<bool, Failure> {
    match device.mig_mode() {
        Ok(mode) => Ok(mode.current == 1),
        Err(error) => match raw::wrapped(&error) {
            Reason::NotSupported | Reason::FunctionMissing => Ok(false),
            reason => Err(("nvmlDeviceGetMigMode", reason)),
        },
    }
}

/// Returns the profiles that are published: plain ones and `+me`.
///
/// The graphics and partial-media variants of newer GPUs (`+gfx`, `-me`, `+me.all`) are left out, because their
/// engines would need counters of their own.
fn profiles(nvml: &Nvml, known: &KnownGpu, gpu_memory_bytes: u64) -> Result<Vec<MigProfile>, Failure> {
    let mut profiles: Vec<MigProfile> = Vec::new();
    for info in &known.profiles {
        let name = profile_name(info, gpu_memory_bytes);
        let has_media_extensions = name.ends_with("+me");
        if !(has_media_extensions || is_plain(&name)) || profiles.iter().any(|p| p.profile_id == info.id) {
            continue;
        }
        let placements = match raw::possible_placements(nvml.lib(), known.handle, info.id) {
            Ok(placements) => placements,
            // With MIG mode off, some drivers do not list placements.
            Err((_, Reason::NotSupported | Reason::NoPermission)) => continue,
            Err((call, reason @ (Reason::InvalidArgument | Reason::FunctionMissing))) => {
                tracing::debug!(gpu = known.uuid, profile = name, call, %reason, "A MIG profile is left out.");
                continue;
            }
            // Other errors may be temporary: the whole description is repeated, so that no profile is missing for a
            // moment.
            Err(failure) => return Err(failure),
        };
        let placements: Vec<Placement> = placements
            .into_iter()
            .map(|(start, size)| Placement { start: slice_number(start), size: slice_number(size) })
            .collect();
        profiles.push(MigProfile {
            profile_id: info.id,
            compute_slices: slice_number(info.slices),
            memory_slices: placements.first().map_or(0, |placement| placement.size),
            memory_mib: info.memory_mib,
            multiprocessors: info.multiprocessors,
            has_media_extensions,
            max_instances: info.max_instances,
            placements,
            name,
        });
    }
    Ok(profiles)
}

/// Returns the name of a profile, such as `2g.10gb`: NVML's own without the prefix `MIG `, or one built as NVIDIA's
/// tools do.
fn profile_name(info: &ProfileInfo, gpu_memory_bytes: u64) -> String {
    match info.name.as_deref().map(|name| name.strip_prefix("MIG ").unwrap_or(name)) {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => format!("{}g.{}gb", info.slices, profile_gb(info.memory_mib, gpu_memory_bytes)),
    }
}

/// Returns the `10` of `2g.10gb`: the memory of the profile in eighths of the GPU's, rounded up, times the GiB of the
/// GPU.
fn profile_gb(profile_mib: u64, gpu_bytes: u64) -> u64 {
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    let gpu_gib = gpu_bytes.div_ceil(GIB);
    let eighths = (profile_mib * MIB * 8).div_ceil(gpu_bytes.max(1));
    (eighths * gpu_gib + 4) / 8
}

fn is_plain(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_digit() || c.is_ascii_lowercase() || c == '.')
}

/// Returns the number of streaming multiprocessors of the whole GPU. NVML only reports CUDA cores; how many of them a
/// multiprocessor has follows from the compute capability (CUDA programming guide, arithmetic throughput of 32-bit
/// floating point). If NVML does not report them, the largest MIG profile's number is used.
fn multiprocessors(device: &Device<'_>, capability: ComputeCapability, profiles: &[MigProfile]) -> u32 {
    let cores_per_multiprocessor = match (capability.major, capability.minor) {
        (7, _) | (6, 0) | (8, 0) => 64,
        _ => 128,
    };
    match device.num_cores() {
        Ok(cores) if cores > 0 => cores / cores_per_multiprocessor,
        _ => profiles.iter().map(|profile| profile.multiprocessors).max().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(slices: u32, memory_mib: u64, name: Option<&str>) -> ProfileInfo {
        ProfileInfo {
            id: 0,
            slices,
            max_instances: 1,
            multiprocessors: 14,
            memory_mib,
            name: name.map(str::to_owned),
        }
    }

    #[test]
    fn a_profile_bears_nvmls_name_or_the_one_that_nvidias_tools_would_make() {
        let a100 = 40960 << 20;
        assert_eq!(profile_name(&info(1, 4864, Some("MIG 1g.5gb+me")), a100), "1g.5gb+me");
        assert_eq!(profile_name(&info(1, 4864, None), a100), "1g.5gb");
        assert_eq!(profile_name(&info(2, 9984, None), a100), "2g.10gb");
        assert_eq!(profile_name(&info(7, 40320, None), a100), "7g.40gb");
        let h100 = 81559 << 20;
        assert_eq!(profile_name(&info(1, 20096, None), h100), "1g.20gb");
        assert_eq!(profile_name(&info(3, 40448, Some("")), h100), "3g.40gb");
    }

    #[test]
    fn variants_whose_engines_have_no_counter_are_not_plain() {
        assert!(is_plain("1g.24gb"));
        assert!(!is_plain("1g.24gb-me"));
        assert!(!is_plain("1g.24gb+gfx"));
    }
}
