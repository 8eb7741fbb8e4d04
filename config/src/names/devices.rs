//! Names of what the driver publishes: attributes, capacities, counters, pools, devices and DeviceClasses.
//!
//! The functions with a `driver` serve any DRA driver that follows this scheme; Sluice's own is [`DRIVER`].
use super::DRIVER;

/// Attribute: [`TYPE_GPU`] or [`TYPE_MIG`].
pub const TYPE: &str = "type";
/// Value of [`TYPE`] for a full GPU.
pub const TYPE_GPU: &str = "gpu";
/// Value of [`TYPE`] for a MIG placement.
pub const TYPE_MIG: &str = "mig";
/// Attribute: profile name such as `2g.10gb`, or [`PROFILE_FULL`].
pub const PROFILE: &str = "profile";
/// Profile of a full GPU: value of [`PROFILE`], and of [`env::PROFILE`](super::env::PROFILE) in containers.
pub const PROFILE_FULL: &str = "full";
/// Attribute: UUID of a full GPU.
pub const UUID: &str = "uuid";
/// Attribute: UUID of the GPU that a placement lies on.
pub const PARENT_UUID: &str = "parentUUID";
/// Attribute: product name of the GPU.
pub const PRODUCT_NAME: &str = "productName";
/// Attribute: architecture of the GPU, such as `Ampere`.
pub const ARCHITECTURE: &str = "architecture";
/// Attribute (version): CUDA compute capability.
pub const CUDA_COMPUTE_CAPABILITY: &str = "cudaComputeCapability";
/// Attribute (version): version of NVIDIA's driver.
pub const DRIVER_VERSION: &str = "driverVersion";
/// Attribute (int): minor number of the GPU.
pub const MINOR: &str = "minor";
/// Attribute (int): first memory slice of a placement, from 0.
pub const PLACEMENT_START: &str = "placementStart";
/// Attribute (int): number of memory slices of a placement.
pub const PLACEMENT_SIZE: &str = "placementSize";
/// Attribute (int): id of the GPU-instance profile.
pub const PROFILE_ID: &str = "profileId";
/// Attribute in Kubernetes' own domain: PCI address of the GPU.
pub const PCI_BUS_ID: &str = "resource.kubernetes.io/pciBusID";
/// Capacity: memory in bytes.
pub const MEMORY: &str = "memory";
/// Capacity: number of streaming multiprocessors.
pub const MULTIPROCESSORS: &str = "multiprocessors";
/// Counter of the media extensions, of which a GPU has one set.
pub const MEDIA_EXTENSIONS_COUNTER: &str = "me";
/// Prefix of the counters of memory slices.
pub const MEMORY_SLICE_PREFIX: &str = "memory-slice-";
/// Suffix of the names of counter sets.
pub const COUNTER_SET_SUFFIX: &str = "-counters";
/// DeviceClass of Sluice's full GPUs.
pub const CLASS_FULL_GPU: &str = DRIVER;

/// Returns the name of the pool of a node's GPUs: `<node>/gpu`. Not the bare node name: pools of two drivers on one
/// node must not share a name, because the scheduler up to 1.36.2 caches counters by pool name alone.
pub fn pool(node: &str) -> String {
    format!("{node}/gpu")
}

/// Returns the device name of a full GPU: `gpu-0`.
pub fn full_device(minor: u32) -> String {
    format!("gpu-{minor}")
}

/// Returns the device name of a MIG placement that begins at memory slice `start`: `gpu-0-mig-2g-10gb-4`.
pub fn mig_device(minor: u32, profile: &str, start: u8) -> String {
    format!("gpu-{minor}-mig-{}-{start}", profile_in_name(profile))
}

/// Returns a profile name in the form that DNS labels allow: `1g.5gb+me` → `1g-5gb-me`.
pub fn profile_in_name(profile: &str) -> String {
    profile.replace(['.', '+'], "-")
}

/// Returns the name of a GPU's counter set: `gpu-0-counters`.
pub fn counter_set(minor: u32) -> String {
    format!("gpu-{minor}{COUNTER_SET_SUFFIX}")
}

/// Returns the name of the counter of one memory slice: `memory-slice-3`.
pub fn memory_slice_counter(slice: u8) -> String {
    format!("{MEMORY_SLICE_PREFIX}{slice}")
}

/// Returns the name of the DeviceClass of full GPUs, which is the driver's own name.
pub fn full_class(driver: &str) -> String {
    driver.to_owned()
}

/// Returns the name of the DeviceClass of any MIG placement: `mig.<driver>`.
pub fn mig_class(driver: &str) -> String {
    format!("mig.{driver}")
}

/// Returns the name of the DeviceClass of one MIG profile: `mig-2g-10gb.<driver>`.
pub fn profile_class(driver: &str, profile: &str) -> String {
    format!("mig-{}.{driver}", profile_in_name(profile))
}

/// Returns the name of Sluice's DeviceClass of one MIG profile: `2g.10gb` → `mig-2g-10gb.gpu.sluice.dev`.
pub fn class_of_profile(profile: &str) -> String {
    profile_class(DRIVER, profile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_becomes_a_dns_label_in_its_class_name() {
        assert_eq!(class_of_profile("1g.5gb+me"), "mig-1g-5gb-me.gpu.sluice.dev");
    }
}
