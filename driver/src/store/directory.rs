//! The store of one machine: [`ObjectDir`].

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim, ResourceSlice};
use sluice_config::objects::{ObjectDir, ObjectError};

use super::{Store, StoreError};

/// How often the directory is looked at: half of the second in which wiped slices must be back.
const POLL: Duration = Duration::from_millis(500);

/// Objects in a directory.
#[derive(Debug, Clone)]
pub struct DirectoryStore(ObjectDir);

impl DirectoryStore {
    /// The directory at `root`, made when the first object is written.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self(ObjectDir::new(root))
    }

    /// Runs file operations where they may block.
    async fn blocking<T: Send + 'static>(
        &self,
        act: impl FnOnce(&ObjectDir) -> Result<T, ObjectError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let objects = self.0.clone();
        match tokio::task::spawn_blocking(move || act(&objects)).await {
            Ok(result) => result.map_err(|error| StoreError(error.to_string())),
            Err(error) => Err(StoreError(format!("object directory: {error}"))),
        }
    }
}

#[async_trait]
impl Store for DirectoryStore {
    async fn slices(&self, driver: &str, node: &str) -> Result<Vec<ResourceSlice>, StoreError> {
        let all: Vec<ResourceSlice> = self.blocking(|objects| objects.list()).await?;
        let is_ours = |slice: &ResourceSlice| {
            slice.spec.driver == driver && slice.spec.node_name.as_deref() == Some(node)
        };
        Ok(all.into_iter().filter(is_ours).collect())
    }

    async fn put_slice(&self, slice: &ResourceSlice) -> Result<(), StoreError> {
        let name = slice.metadata.name.clone().unwrap_or_default();
        let slice = slice.clone();
        self.blocking(move |objects| objects.put(None, &name, &slice)).await
    }

    async fn delete_slice(&self, name: &str) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.blocking(move |objects| objects.delete::<ResourceSlice>(None, &name)).await.map(|_| ())
    }

    async fn slices_changed(&self) {
        tokio::time::sleep(POLL).await;
    }

    async fn claim(&self, namespace: &str, name: &str) -> Result<Option<ResourceClaim>, StoreError> {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        self.blocking(move |objects| objects.get(Some(&namespace), &name)).await
    }

    async fn offer_classes(&self, classes: &[DeviceClass]) -> Result<(), StoreError> {
        let classes = classes.to_vec();
        self.blocking(move |objects| {
            for class in &classes {
                let name = class.metadata.name.as_deref().unwrap_or_default();
                if objects.get::<DeviceClass>(None, name)?.as_ref() != Some(class) {
                    objects.put(None, name, class)?;
                }
            }
            Ok(())
        })
        .await
    }
}
