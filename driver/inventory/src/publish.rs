//! The objects that tell the cluster what a node has: ResourceSlices of its GPUs and the DeviceClasses
//! that ask for them.
//!
//! What is published of a GPU follows its MIG mode, because a device that is handed out must be
//! servable: MIG mode off, the full GPU; on, every placement of every profile; switchable by the
//! driver, both. Placements draw on one counter per memory slice and one for the media extensions, which
//! is enough to make every conflict on real geometries visible to the scheduler; a full GPU draws on all.
//! A GPU without placements needs no counters and has none, so it works on clusters that lack them.
use k8s_openapi::api::resource::v1::{
    CELDeviceSelector, DeviceClass, DeviceClassSpec, DeviceSelector, ResourceSlice,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::gpu::Gpu;
use crate::{names, order, pack};

/// Which rule of the API server the slices must follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Kubernetes 1.34: a slice has its counters and the devices that use them.
    Combined,
    /// Kubernetes ≥ 1.35: a slice has either counters or devices.
    Split,
}

/// Why a node's GPUs cannot be published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Not a DNS subdomain, or too long.
    #[error("{what} {name:?} is not a valid name: {why}; choose another")]
    Name {
        /// Whose name.
        what: &'static str,
        /// The name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// Two devices would share a name.
    #[error("device {name:?} would be published twice; GPU minors and profile names must be unique")]
    Duplicate {
        /// The device name.
        name: String,
    },
    /// A placement lies outside the GPU.
    #[error(
        "GPU {minor}: profile {profile} has a placement at {start} of size {size}, outside its {slices} memory slices"
    )]
    Placement {
        /// GPU minor number.
        minor: u32,
        /// Profile name.
        profile: String,
        /// Start of the placement.
        start: u8,
        /// Size of the placement.
        size: u8,
        /// Memory slices of the GPU.
        slices: u8,
    },
    /// An attribute's text is longer than the API takes.
    #[error("GPU {minor}: attribute {attribute} is {length} bytes long; the API takes {limit}")]
    Attribute {
        /// GPU minor number.
        minor: u32,
        /// Attribute name.
        attribute: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// One GPU does not fit in one slice of the combined form.
    #[error(
        "GPU {minor} has {devices} devices, one combined slice takes {limit}; use the split form (Kubernetes >= 1.35)"
    )]
    TooManyDevices {
        /// GPU minor number.
        minor: u32,
        /// Its devices.
        devices: usize,
        /// The limit.
        limit: usize,
    },
}

/// ResourceSlices of one node's GPUs: one pool, complete, in published order.
///
/// `node` is the node's name, `driver` the DRA driver's, `generation` the pool's generation, to be
/// raised by the caller whenever the content changes. `metadata.name` is set (slices are allocated from
/// in name order since Kubernetes 1.36); labels and owner are left to the caller. Without GPUs there is
/// one empty slice, so that the pool is known to be empty and not just unknown.
///
/// # Errors
/// A name, placement or attribute that the API server would refuse.
pub fn resource_slices(
    node: &str,
    driver: &str,
    gpus: &[Gpu],
    form: Form,
    generation: i64,
) -> Result<Vec<ResourceSlice>, PublishError> {
    crate::check::publishable(node, driver, gpus)?;
    pack::slices(node, driver, &order::gpus(gpus), form, generation)
}

/// DeviceClasses for the given GPUs: full GPUs, any MIG slice, and one per profile that any of them has,
/// each also an extended resource of the name `<driver>/gpu`, `<driver>/mig`, `<driver>/mig-2g-10gb`.
pub fn device_classes(driver: &str, gpus: &[Gpu]) -> Vec<DeviceClass> {
    let mut profiles: Vec<&str> = Vec::new();
    for profile in order::gpus(gpus).into_iter().flat_map(order::profiles) {
        if !profiles.contains(&profile.name.as_str()) {
            profiles.push(&profile.name);
        }
    }
    device_classes_of_profiles(driver, &profiles)
}

/// The same for profile names known otherwise.
pub fn device_classes_of_profiles(driver: &str, profiles: &[&str]) -> Vec<DeviceClass> {
    let on_driver = format!("device.driver == \"{driver}\"");
    let attribute =
        |name: &str, value: &str| format!("device.attributes[\"{driver}\"].{name} == \"{value}\"");
    let mut classes = vec![
        class(
            names::full_class(driver),
            format!("{driver}/gpu"),
            format!("{on_driver} && {}", attribute(names::TYPE, names::TYPE_GPU)),
        ),
        class(
            names::mig_class(driver),
            format!("{driver}/mig"),
            format!("{on_driver} && {}", attribute(names::TYPE, names::TYPE_MIG)),
        ),
    ];
    classes.extend(profiles.iter().map(|profile| {
        class(
            names::profile_class(driver, profile),
            format!("{driver}/mig-{}", names::profile_in_name(profile)),
            format!(
                "{on_driver} && {} && {}",
                attribute(names::TYPE, names::TYPE_MIG),
                attribute(names::PROFILE, profile)
            ),
        )
    }));
    classes
}

fn class(name: String, extended_resource: String, expression: String) -> DeviceClass {
    DeviceClass {
        metadata: ObjectMeta { name: Some(name), ..ObjectMeta::default() },
        spec: DeviceClassSpec {
            config: None,
            extended_resource_name: Some(extended_resource),
            selectors: Some(vec![DeviceSelector { cel: Some(CELDeviceSelector { expression }) }]),
        },
    }
}
