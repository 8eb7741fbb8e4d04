//! GPUs as NVML describes them (geometry from NVIDIA's MIG user guide), with clusters and claims.
use k8s_openapi::api::resource::v1::{
    DeviceClaim, DeviceRequest, ExactDeviceRequest, ResourceClaim, ResourceClaimSpec, ResourceClaimStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sluice_config::names::devices as names;
use sluice_inventory::*;

pub(crate) const DRIVER: &str = "gpu.sluice.dev";

/// Id, compute slices, memory slices, media extensions, starts.
type Row = (u32, u8, u8, bool, &'static [u8]);

const EIGHT: [Row; 7] = [
    (19, 1, 1, false, &[0, 1, 2, 3, 4, 5, 6]),
    (20, 1, 1, true, &[0, 1, 2, 3, 4, 5, 6]),
    (15, 1, 2, false, &[0, 2, 4, 6]),
    (14, 2, 2, false, &[0, 2, 4]),
    (9, 3, 4, false, &[0, 4]),
    (5, 4, 4, false, &[0]),
    (0, 7, 8, false, &[0]),
];
const FOUR: [Row; 5] = [
    (14, 1, 1, false, &[0, 1, 2, 3]),
    (21, 1, 1, true, &[0, 1, 2, 3]),
    (5, 2, 2, false, &[0, 2]),
    (6, 2, 2, true, &[0, 2]),
    (0, 4, 4, false, &[0]),
];

fn gpu(minor: u32, product: &str, slices: u8, gib_per_slice: u64, rows: &[Row]) -> Gpu {
    let profiles = rows.iter().map(|&(profile_id, compute, memory, media, starts)| MigProfile {
        profile_id,
        name: format!("{compute}g.{}gb{}", u64::from(memory) * gib_per_slice, if media { "+me" } else { "" }),
        compute_slices: compute,
        memory_slices: memory,
        memory_mib: u64::from(memory) * gib_per_slice * 1024 - 256,
        multiprocessors: u32::from(compute) * 14,
        has_media_extensions: media,
        max_instances: starts.len() as u32,
        placements: starts.iter().map(|&start| Placement { start, size: memory }).collect(),
    });
    Gpu {
        minor,
        uuid: format!("GPU-00000000-0000-0000-0000-{minor:012}"),
        product: product.to_owned(),
        architecture: "Ampere".to_owned(),
        compute_capability: ComputeCapability { major: 8, minor: 0 },
        driver_version: "580.95.05".to_owned(),
        pci_bus_id: format!("00000000:{minor:02X}:00.0"),
        memory_bytes: (u64::from(slices) * gib_per_slice) << 30,
        multiprocessors: 98,
        memory_slices: slices,
        mig_enabled: true,
        mig_switchable: false,
        mig_profiles: profiles.collect(),
    }
}

pub(crate) fn a100_40(minor: u32) -> Gpu {
    gpu(minor, "NVIDIA A100-SXM4-40GB", 8, 5, &EIGHT)
}

pub(crate) fn h100_80(minor: u32) -> Gpu {
    gpu(minor, "NVIDIA H100 80GB HBM3", 8, 10, &EIGHT)
}

pub(crate) fn a30(minor: u32) -> Gpu {
    gpu(minor, "NVIDIA A30", 4, 6, &FOUR)
}

pub(crate) fn cluster(nodes: &[(&str, Vec<Gpu>)]) -> Cluster {
    let mut cluster = Cluster::default();
    for (node, gpus) in nodes {
        cluster.slices.extend(resource_slices(node, DRIVER, gpus, SliceLayout::Split, 1).unwrap());
    }
    let all: Vec<Gpu> = nodes.iter().flat_map(|(_, gpus)| gpus.clone()).collect();
    cluster.device_classes = device_classes(DRIVER, &all);
    cluster
}

pub(crate) fn class(profile: &str) -> String {
    names::profile_class(DRIVER, profile)
}

/// Creates a pending claim for `count` devices of a class.
pub(crate) fn claim(name: &str, class: &str, count: i64) -> ResourceClaim {
    let exactly = ExactDeviceRequest {
        device_class_name: class.to_owned(),
        count: Some(count),
        ..ExactDeviceRequest::default()
    };
    claim_for(
        name,
        vec![DeviceRequest { name: "gpu".to_owned(), exactly: Some(exactly), first_available: None }],
    )
}

pub(crate) fn claim_for(name: &str, requests: Vec<DeviceRequest>) -> ResourceClaim {
    ResourceClaim {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some("default".to_owned()),
            ..ObjectMeta::default()
        },
        spec: ResourceClaimSpec {
            devices: Some(DeviceClaim { requests: Some(requests), ..DeviceClaim::default() }),
        },
        status: None,
    }
}

/// Allocates a claim and keeps the allocation, as the scheduler does.
pub(crate) fn place(cluster: &mut Cluster, name: &str, class: &str) -> Result<Vec<String>, AllocationError> {
    let mut claim = claim(name, class, 1);
    let allocation = allocate(cluster, &claim)?;
    let devices = devices(&allocation);
    claim.status =
        Some(ResourceClaimStatus { allocation: Some(allocation.result), ..ResourceClaimStatus::default() });
    cluster.claims.push(claim);
    Ok(devices)
}

/// Adds a claim that holds exactly this device.
pub(crate) fn hold(cluster: &mut Cluster, name: &str, node: &str, device: &str) {
    use k8s_openapi::api::resource::v1::*;
    let mut claim = claim(name, "any", 1);
    let result = DeviceRequestAllocationResult {
        request: "gpu".to_owned(),
        driver: DRIVER.to_owned(),
        pool: names::pool(node),
        device: device.to_owned(),
        ..DeviceRequestAllocationResult::default()
    };
    claim.status = Some(ResourceClaimStatus {
        allocation: Some(AllocationResult {
            devices: Some(DeviceAllocationResult { config: None, results: Some(vec![result]) }),
            ..AllocationResult::default()
        }),
        ..ResourceClaimStatus::default()
    });
    cluster.claims.push(claim);
}

pub(crate) fn devices(allocation: &Allocation) -> Vec<String> {
    let devices = allocation.result.devices.as_ref().unwrap();
    devices.results.iter().flatten().map(|r| r.device.clone()).collect()
}
