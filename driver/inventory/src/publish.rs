//! Objects that describe a node's GPUs to the cluster: ResourceSlices, and the DeviceClasses that claims name.
//!
//! What is published of a GPU follows its MIG mode, because a device that is allocated must be usable: the full GPU
//! where MIG mode is off, every placement of every profile where it is on, both where the driver can switch it. Each
//! placement consumes one counter per memory slice that it covers, and `+me` profiles one for the media extensions;
//! that makes every conflict on real geometries visible to the scheduler. A full GPU consumes all counters. A GPU
//! without placements has no counters, so it works on clusters that do not support them.
use k8s_openapi::api::resource::v1::{
    CELDeviceSelector, DeviceClass, DeviceClassSpec, DeviceSelector, ResourceSlice,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::error::PublishError;
use crate::gpu::Gpu;
use crate::layout::SliceLayout;
use crate::{order, pack};
use sluice_config::names::devices as names;

/// Returns the ResourceSlices of one node's GPUs: one complete pool in published order.
///
/// `node` is the name of the node and `driver` that of the DRA driver. `generation` is the pool's generation, which
/// the caller raises whenever the content changes. `metadata.name` is set, because Kubernetes ≥ 1.36 allocates from
/// slices in the order of their names; the caller sets labels and owner. Without GPUs the result is one empty slice,
/// so that readers know the pool to be empty instead of missing.
///
/// # Errors
/// Fails on a name, placement or attribute that the API server would refuse.
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

/// Returns the DeviceClasses for the given GPUs: full GPUs, any MIG slice, and one per profile that any of the GPUs
/// has. Each is also an extended resource named `<driver>/gpu`, `<driver>/mig`, `<driver>/mig-2g-10gb`.
pub fn device_classes(driver: &str, gpus: &[Gpu]) -> Vec<DeviceClass> {
    let mut profiles: Vec<&str> = Vec::new();
    for profile in order::gpus(gpus).into_iter().flat_map(order::profiles) {
        if !profiles.contains(&profile.name.as_str()) {
            profiles.push(&profile.name);
        }
    }
    device_classes_of_profiles(driver, &profiles)
}

/// Returns the DeviceClasses for profiles given by name.
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
