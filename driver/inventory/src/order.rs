//! Order in which devices are published. The scheduler takes the first device that fits and never scores, so this
//! order *is* the placement policy.
//!
//! GPU by GPU: filling one GPU before the next is used is by far the largest gain. Small profiles come before large
//! ones, so that a claim for "any slice with 10 GiB" gets the smallest that suffices, and plain ones before `+me`,
//! because a GPU has one set of media engines. Within a profile the highest start comes first, as in NVIDIA's own
//! order: 1g at 6, 2g at 4, 3g at 4 leave the lower half whole. The full GPU is last.
use std::cmp::Reverse;

use crate::device::{DeviceEntry, DeviceKind};
use crate::geometry::{MigProfile, Placement};
use crate::gpu::Gpu;
use sluice_config::names::devices as names;

/// Returns the GPUs in order of their minor numbers.
pub(crate) fn gpus(gpus: &[Gpu]) -> Vec<&Gpu> {
    let mut sorted: Vec<_> = gpus.iter().collect();
    sorted.sort_by_key(|gpu| gpu.minor);
    sorted
}

/// Returns the profiles of a GPU, smallest first.
pub(crate) fn profiles(gpu: &Gpu) -> Vec<&MigProfile> {
    let mut sorted: Vec<_> = gpu.mig_profiles.iter().collect();
    sorted.sort_by_key(|p| (p.memory_slices, p.compute_slices, p.has_media_extensions, p.profile_id));
    sorted
}

/// Returns the placements of a profile, highest start first.
pub(crate) fn placements(profile: &MigProfile) -> Vec<Placement> {
    let mut sorted = profile.placements.clone();
    sorted.sort_by_key(|p| Reverse(p.start));
    sorted
}

/// Returns the devices of one GPU in published order.
pub(crate) fn devices(gpu: &Gpu) -> Vec<DeviceEntry> {
    let mut devices = Vec::new();
    if gpu.serves_mig() {
        for profile in profiles(gpu) {
            devices.extend(placements(profile).into_iter().map(|placement| DeviceEntry {
                name: names::mig_device(gpu.minor, &profile.name, placement.start),
                gpu_minor: gpu.minor,
                kind: DeviceKind::Mig {
                    profile_id: profile.profile_id,
                    profile: profile.name.clone(),
                    placement,
                },
            }));
        }
    }
    if gpu.serves_full() {
        devices.push(DeviceEntry {
            name: names::full_device(gpu.minor),
            gpu_minor: gpu.minor,
            kind: DeviceKind::Full,
        });
    }
    devices
}
