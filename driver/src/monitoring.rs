//! Monitoring devices: one for each GPU, which claims with `adminAccess` get beside the claims that use the GPU. Such
//! a device opens the GPU and every instance on it.
//!
//! They are needed because a claim has at most 32 devices, which the placements of one GPU in MIG mode already are,
//! and because a placement whose counters are used up is not allocated, not even with `adminAccess`.

use k8s_openapi::api::resource::v1::{
    CELDeviceSelector, DeviceAttribute, DeviceClass, DeviceClassSpec, DeviceSelector, DeviceTaint,
    ResourceSlice,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sluice_config::names::devices as names;
use sluice_inventory::{Gpu, PublishError, SliceLayout, resource_slices};

/// Value of the attributes `type` and `profile` of these devices.
pub const TYPE_MONITOR: &str = "monitor";

/// Name in the key of the taint that keeps ordinary claims from these devices.
const TAINT: &str = "admin-only";

/// Returns the name of the monitoring device of a GPU: `gpu-0-monitor`.
pub fn device(minor: u32) -> String {
    format!("{}-{TYPE_MONITOR}", names::full_device(minor))
}

/// Returns the slice of the monitoring devices; `None` without GPUs. A node with more GPUs than a slice of tainted
/// devices may have (64) gets monitoring devices for the first ones only.
pub(crate) fn slice(node: &str, driver: &str, gpus: &[Gpu]) -> Result<Option<ResourceSlice>, PublishError> {
    // The devices are described as full GPUs, so that selectors by any attribute or capacity match them.
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

/// Returns the DeviceClass by which claims request monitoring devices.
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
