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

use crate::error::PublishError;
use crate::gpu::Gpu;
use crate::layout::SliceLayout;
use crate::{order, pack};
use sluice_config::names::devices as names;

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
    layout: SliceLayout,
    generation: i64,
) -> Result<Vec<ResourceSlice>, PublishError> {
    crate::check::publishable(node, driver, gpus)?;
    pack::slices(node, driver, &order::gpus(gpus), layout, generation)
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
