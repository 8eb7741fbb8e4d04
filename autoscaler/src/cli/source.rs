//! Where the objects come from.

use sluice_config::api::InferenceAutoscaler;
use sluice_config::objects::ObjectDir;
use sluice_inventory::Cluster;

use crate::platform::local::cluster::read_cluster;

/// Objects to read: the object directory of one machine here, an API server there.
pub trait ObjectSource {
    /// Slices, claims and classes.
    ///
    /// # Errors
    /// In words.
    fn cluster(&self) -> Result<Cluster, String>;

    /// All InferenceAutoscalers.
    ///
    /// # Errors
    /// In words.
    fn autoscalers(&self) -> Result<Vec<InferenceAutoscaler>, String>;
}

impl ObjectSource for ObjectDir {
    fn cluster(&self) -> Result<Cluster, String> {
        exists(self)?;
        read_cluster(self)
    }

    fn autoscalers(&self) -> Result<Vec<InferenceAutoscaler>, String> {
        exists(self)?;
        self.list().map_err(|error| error.to_string())
    }
}

/// A directory that is not there would look like a machine without GPUs.
fn exists(store: &ObjectDir) -> Result<(), String> {
    if store.root().is_dir() {
        return Ok(());
    }
    Err(format!(
        "there is no object directory {}; --store must name the one that sluice-driver and sluice-autoscaler use",
        store.root().display()
    ))
}
