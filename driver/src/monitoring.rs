//! Devices for whoever watches GPUs: one for each GPU, given by claims with `adminAccess` alone, beside the
//! claims that use the GPU. They open the GPU and every instance on it.
//!
//! They are needed because a claim has 32 devices at most, and one GPU in MIG mode has as many places; and
//! because a place whose counters are used up is given to nobody, not even with `adminAccess`.

use k8s_openapi::api::resource::v1::{
    CELDeviceSelector, DeviceAttribute, DeviceClass, DeviceClassSpec, DeviceSelector, DeviceTaint,
    ResourceSlice,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sluice_config::names::devices as names;
use sluice_inventory::{Gpu, PublishError, SliceLayout, resource_slices};

/// Value of the attributes `type` and `profile`.
pub const TYPE_MONITOR: &str = "monitor";

/// What the taint's key ends with that keeps these devices from claims which would use them.
const TAINT: &str = "admin-only";

/// Name of a GPU's device: `gpu-0-monitor`.
pub fn device(minor: u32) -> String {
    format!("{}-{TYPE_MONITOR}", names::full_device(minor))
}

/// The slice of these devices, with the limit of GPUs that a slice of tainted devices has; none without GPUs.
pub(crate) fn slice(node: &str, driver: &str, gpus: &[Gpu]) -> Result<Option<ResourceSlice>, PublishError> {
    // Described as whole GPUs: selectors that ask for any attribute or capacity find it.
    let whole = |gpu: &Gpu| Gpu { mig_enabled: false, mig_profiles: Vec::new(), ..gpu.clone() };
    let gpus: Vec<Gpu> = gpus.iter().map(whole).collect();
    if gpus.is_empty() {
        return Ok(None);
    }
    let Some(mut slice) = resource_slices(node, driver, &gpus, SliceLayout::Split, 1)?.into_iter().next()
    else {
        return Ok(None);
    };
    slice.metadata.name = Some(format!("{node}-{driver}-{TYPE_MONITOR}"));
    for device in slice.spec.devices.iter_mut().flatten() {
        device.name = format!("{}-{TYPE_MONITOR}", device.name);
        let attributes = device.attributes.get_or_insert_default();
        for name in [names::TYPE, names::PROFILE] {
            let value =
                DeviceAttribute { string: Some(TYPE_MONITOR.to_owned()), ..DeviceAttribute::default() };
            attributes.insert(name.to_owned(), value);
        }
        device.taints = Some(vec![DeviceTaint {
            key: format!("{driver}/{TAINT}"),
            effect: "NoSchedule".to_owned(),
            ..DeviceTaint::default()
        }]);
    }
    Ok(Some(slice))
}

/// The class by which claims ask for them.
pub fn device_class(driver: &str) -> DeviceClass {
    let expression = format!(
        "device.driver == \"{driver}\" && device.attributes[\"{driver}\"].{} == \"{TYPE_MONITOR}\"",
        names::TYPE
    );
    DeviceClass {
        metadata: ObjectMeta { name: Some(format!("{TYPE_MONITOR}.{driver}")), ..ObjectMeta::default() },
        spec: DeviceClassSpec {
            selectors: Some(vec![DeviceSelector { cel: Some(CELDeviceSelector { expression }) }]),
            ..DeviceClassSpec::default()
        },
    }
}
