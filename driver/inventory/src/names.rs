//! Names of devices, counters, attributes, pools and classes: each made in one place, read in many.
use crate::geometry::Placement;

/// Attribute: `gpu` or `mig`.
pub const TYPE: &str = "type";
/// Value of [`TYPE`] for a full GPU.
pub const TYPE_GPU: &str = "gpu";
/// Value of [`TYPE`] for a MIG placement.
pub const TYPE_MIG: &str = "mig";
/// Attribute: profile name, [`PROFILE_FULL`] for a full GPU.
pub const PROFILE: &str = "profile";
/// Value of [`PROFILE`] for a full GPU.
pub const PROFILE_FULL: &str = "full";
/// Attribute: UUID of a full GPU.
pub const UUID: &str = "uuid";
/// Attribute: UUID of the GPU that a placement lies on.
pub const PARENT_UUID: &str = "parentUUID";
/// Attribute: product name.
pub const PRODUCT_NAME: &str = "productName";
/// Attribute: architecture.
pub const ARCHITECTURE: &str = "architecture";
/// Attribute (version): CUDA compute capability.
pub const CUDA_COMPUTE_CAPABILITY: &str = "cudaComputeCapability";
/// Attribute (version): NVIDIA driver's version.
pub const DRIVER_VERSION: &str = "driverVersion";
/// Attribute (int): the GPU's minor number.
pub const MINOR: &str = "minor";
/// Attribute (int): first memory slice of a placement.
pub const PLACEMENT_START: &str = "placementStart";
/// Attribute (int): memory slices of a placement.
pub const PLACEMENT_SIZE: &str = "placementSize";
/// Attribute (int): GI profile id.
pub const PROFILE_ID: &str = "profileId";
/// Attribute of Kubernetes' own domain: PCI address.
pub const PCI_BUS_ID: &str = "resource.kubernetes.io/pciBusID";
/// Capacity: memory.
pub const MEMORY: &str = "memory";
/// Capacity: streaming multiprocessors.
pub const MULTIPROCESSORS: &str = "multiprocessors";
/// Counter of the media extensions.
pub const MEDIA_EXTENSIONS_COUNTER: &str = "me";
/// What memory-slice counters begin with.
pub const MEMORY_SLICE_PREFIX: &str = "memory-slice-";
/// What names of counter sets end with.
pub const COUNTER_SET_SUFFIX: &str = "-counters";

/// Pool of a node's GPUs: `<node>/gpu`. Not the bare node name: pools of two drivers on one node must
/// not share a name, because the scheduler up to 1.36.2 caches counters by pool name alone.
pub fn pool(node: &str) -> String {
    format!("{node}/gpu")
}

/// Device name of a full GPU: `gpu-0`.
pub fn full_device(minor: u32) -> String {
    format!("gpu-{minor}")
}

/// Device name of a MIG placement: `gpu-0-mig-2g-10gb-4`.
pub fn mig_device(minor: u32, profile: &str, placement: Placement) -> String {
    format!("gpu-{minor}-mig-{}-{}", profile_in_name(profile), placement.start)
}

/// A profile's name as part of a DNS label: `1g.5gb+me` → `1g-5gb-me`.
pub fn profile_in_name(profile: &str) -> String {
    profile.replace(['.', '+'], "-")
}

/// Counter set of a GPU: `gpu-0-counters`.
pub fn counter_set(minor: u32) -> String {
    format!("gpu-{minor}{COUNTER_SET_SUFFIX}")
}

/// Counter of one memory slice: `memory-slice-3`.
pub fn memory_slice_counter(slice: u8) -> String {
    format!("{MEMORY_SLICE_PREFIX}{slice}")
}

/// DeviceClass of full GPUs: the driver's name.
pub fn full_class(driver: &str) -> String {
    driver.to_owned()
}

/// DeviceClass of any MIG placement: `mig.<driver>`.
pub fn mig_class(driver: &str) -> String {
    format!("mig.{driver}")
}

/// DeviceClass of one profile: `mig-2g-10gb.<driver>`.
pub fn profile_class(driver: &str, profile: &str) -> String {
    format!("mig-{}.{driver}", profile_in_name(profile))
}
