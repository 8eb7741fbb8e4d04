//! GPUs as the driver discovers them.

use sluice_inventory::{ComputeCapability, Gpu, MigProfile, Placement};

/// MIG profiles of an A100 with 40 GB: profile id, compute slices, memory slices, starts of its placements.
const A100_PROFILES: [(u32, u8, u8, &[u8]); 6] = [
    (19, 1, 1, &[0, 1, 2, 3, 4, 5, 6]),
    (15, 1, 2, &[0, 2, 4, 6]),
    (14, 2, 2, &[0, 2, 4]),
    (9, 3, 4, &[0, 4]),
    (5, 4, 4, &[0]),
    (0, 7, 8, &[0]),
];

/// Returns an A100 with 40 GB in MIG mode, which offers the named profiles (`2g.10gb`) and no others, in the order of
/// their names here.
///
/// # Panics
/// Where an A100 has no profile of such a name.
pub fn a100(minor: u32, profiles: &[&str]) -> Gpu {
    Gpu {
        minor,
        uuid: format!("GPU-00000000-0000-0000-0000-{minor:012}"),
        product: "NVIDIA A100-SXM4-40GB".to_owned(),
        architecture: "Ampere".to_owned(),
        compute_capability: ComputeCapability { major: 8, minor: 0 },
        driver_version: "580.95.05".to_owned(),
        pci_bus_id: format!("0000:{minor:02x}:00.0"),
        memory_bytes: 40 << 30,
        multiprocessors: 108,
        memory_slices: 8,
        mig_enabled: true,
        mig_switchable: false,
        mig_profiles: profiles.iter().map(|name| profile(name)).collect(),
    }
}

fn profile(name: &str) -> MigProfile {
    let all = A100_PROFILES.map(|(profile_id, compute, memory, starts)| MigProfile {
        profile_id,
        name: format!("{compute}g.{}gb", u32::from(memory) * 5),
        compute_slices: compute,
        memory_slices: memory,
        memory_mib: u64::from(memory) * 4864,
        multiprocessors: u32::from(compute) * 14,
        has_media_extensions: false,
        max_instances: starts.len() as u32,
        placements: starts.iter().map(|&start| Placement { start, size: memory }).collect(),
    });
    all.into_iter().find(|profile| profile.name == name).expect("an A100 with 40 GB has this profile")
}
