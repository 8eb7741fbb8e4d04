//! Attributes of a device, for selectors, and capacities, for people and capacity selectors.
use k8s_openapi::api::resource::v1::{DeviceAttribute, DeviceCapacity};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

use crate::device::{DeviceEntry, DeviceKind};
use crate::gpu::Gpu;
use sluice_config::names::devices as names;

type Attributes = BTreeMap<String, DeviceAttribute>;
type Capacity = BTreeMap<String, DeviceCapacity>;

/// Returns the attributes and the capacity of a device. Unqualified names belong to the driver's domain.
pub(crate) fn device(gpu: &Gpu, entry: &DeviceEntry) -> (Attributes, Capacity) {
    let mut attributes: Attributes = [
        string(names::PROFILE, entry.profile()),
        string(names::PRODUCT_NAME, &gpu.product),
        string(names::ARCHITECTURE, &gpu.architecture),
        version(names::CUDA_COMPUTE_CAPABILITY, compute_capability(gpu)),
        version(names::DRIVER_VERSION, semver(&gpu.driver_version)),
        int(names::MINOR, i64::from(gpu.minor)),
        string(names::PCI_BUS_ID, &pci_address(&gpu.pci_bus_id)),
    ]
    .into();
    let (memory, multiprocessors) = match &entry.kind {
        DeviceKind::Full => {
            attributes.extend([string(names::TYPE, names::TYPE_GPU), string(names::UUID, &gpu.uuid)]);
            (bytes(gpu.memory_bytes), gpu.multiprocessors)
        }
        DeviceKind::Mig { profile_id, placement, .. } => {
            attributes.extend([
                string(names::TYPE, names::TYPE_MIG),
                string(names::PARENT_UUID, &gpu.uuid),
                int(names::PROFILE_ID, i64::from(*profile_id)),
                int(names::PLACEMENT_START, i64::from(placement.start)),
                int(names::PLACEMENT_SIZE, i64::from(placement.size)),
            ]);
            let profile = gpu.mig_profiles.iter().find(|p| p.profile_id == *profile_id);
            let mib = profile.map_or(0, |p| p.memory_mib);
            (bytes(mib << 20), profile.map_or(0, |p| p.multiprocessors))
        }
    };
    let capacity = [
        (names::MEMORY.to_owned(), of(memory)),
        (names::MULTIPROCESSORS.to_owned(), of(multiprocessors.to_string())),
    ]
    .into();
    (attributes, capacity)
}

/// Returns the compute capability, such as `9.0`, as a semantic version: `9.0.0`.
pub(crate) fn compute_capability(gpu: &Gpu) -> String {
    format!("{}.{}.0", gpu.compute_capability.major, gpu.compute_capability.minor)
}

/// Converts a version of NVIDIA's driver to a semantic version, which has exactly three numbers without leading
/// zeros: `580.95.05` → `580.95.5`. A part that is not a number becomes 0.
pub(crate) fn semver(version: &str) -> String {
    let mut numbers = version.split('.').map(|part| part.parse::<u64>().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    format!("{}.{}.{}", next(), next(), next())
}

/// Converts NVML's PCI address `00000000:17:00.0`, whose hexadecimal digits are upper case, to Kubernetes'
/// `0000:17:00.0`.
pub(crate) fn pci_address(nvml: &str) -> String {
    let lower = nvml.to_ascii_lowercase();
    match lower.split_once(':') {
        Some((domain, rest)) if domain.len() == 8 && domain.starts_with("0000") => {
            format!("{}:{rest}", &domain[4..])
        }
        _ => lower,
    }
}

/// Spells a number of bytes as API servers do, 40Gi and not 40960Mi, so that what was published can be compared with
/// what the server stores.
fn bytes(bytes: u64) -> String {
    let units = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let steps = (bytes.trailing_zeros() / 10).min(6);
    match bytes {
        0 => "0".to_owned(),
        _ => format!("{}{}", bytes >> (10 * steps), units[steps as usize]),
    }
}

fn of(value: String) -> DeviceCapacity {
    DeviceCapacity { value: Quantity(value), request_policy: None }
}

fn string(name: &str, value: &str) -> (String, DeviceAttribute) {
    (name.to_owned(), DeviceAttribute { string: Some(value.to_owned()), ..DeviceAttribute::default() })
}

fn version(name: &str, value: String) -> (String, DeviceAttribute) {
    (name.to_owned(), DeviceAttribute { version: Some(value), ..DeviceAttribute::default() })
}

fn int(name: &str, value: i64) -> (String, DeviceAttribute) {
    (name.to_owned(), DeviceAttribute { int: Some(value), ..DeviceAttribute::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_spelled_as_an_api_server_spells_it() {
        let spelled = [0, 1023, 9984 << 20, 40960 << 20, 3 << 40].map(bytes);
        assert_eq!(spelled, ["0", "1023", "9984Mi", "40Gi", "3Ti"]);
    }
}
