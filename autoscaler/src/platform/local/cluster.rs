//! The scheduler's view of this machine.

use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim, ResourceSlice};
use sluice_config::objects::{ObjectDir, ObjectError};
use sluice_inventory::Cluster;

/// Slices, claims and classes of the object directory.
///
/// # Errors
/// Names the file that cannot be read.
pub(crate) fn read_cluster(store: &ObjectDir) -> Result<Cluster, String> {
    let error = |error: ObjectError| error.to_string();
    Ok(Cluster {
        slices: store.list::<ResourceSlice>().map_err(error)?,
        claims: store.list::<ResourceClaim>().map_err(error)?,
        device_classes: store.list::<DeviceClass>().map_err(error)?,
        ..Cluster::default()
    })
}
