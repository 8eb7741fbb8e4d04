//! Reads what the scheduler of this machine places by.

use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim, ResourceSlice};
use sluice_config::objects::ObjectDir;
use sluice_inventory::Cluster;

/// Returns slices, claims and classes of the object directory.
pub(crate) fn read_cluster(store: &ObjectDir) -> anyhow::Result<Cluster> {
    Ok(Cluster {
        slices: store.list::<ResourceSlice>()?,
        claims: store.list::<ResourceClaim>()?,
        device_classes: store.list::<DeviceClass>()?,
        ..Cluster::default()
    })
}
