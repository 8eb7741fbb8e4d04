//! Store of one machine: [`ObjectDir`].

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim, ResourceSlice};
use sluice_config::objects::{ObjectDir, ObjectError};
use sluice_inventory::SliceLayout;

use super::{ClaimEvent, ClaimRef, Store, StoreError};

/// Period of reading the directory: half of the second within which deleted slices must be restored.
const POLL: Duration = Duration::from_millis(500);

#[derive(Debug, Clone)]
pub(crate) struct DirectoryStore {
    objects: ObjectDir,
    /// Last warning about unreadable files, which every read meets again.
    said: Arc<Mutex<String>>,
}

impl DirectoryStore {
    /// Uses the directory `root`, which is created with the first object.
    pub(crate) fn new(root: impl Into<PathBuf>) -> Self {
        Self { objects: ObjectDir::new(root), said: Arc::default() }
    }

    /// Warns once about files that are not ResourceSlices.
    fn warn_of(&self, unreadable: &[ObjectError]) {
        let text = unreadable.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        // The text is replaced as a whole, so a panic elsewhere leaves no partial one.
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if *said != text && !text.is_empty() {
            tracing::warn!(error = text, "Ignoring files that are not ResourceSlices.");
        }
        *said = text;
    }

    /// Runs file operations on a thread that may block.
    async fn blocking<T: Send + 'static>(
        &self,
        act: impl FnOnce(&ObjectDir) -> Result<T, ObjectError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let objects = self.objects.clone();
        match tokio::task::spawn_blocking(move || act(&objects)).await {
            Ok(result) => result.map_err(|error| StoreError(error.to_string())),
            Err(error) => Err(StoreError(format!("object directory: {error}"))),
        }
    }
}

#[async_trait]
impl Store for DirectoryStore {
    /// Returns the current layout, since a directory has no old server's rules.
    async fn slice_layout(&self) -> Result<SliceLayout, StoreError> {
        Ok(SliceLayout::Split)
    }

    /// Lists the slices. An unreadable file is treated as absent: one of this driver's is written again, and another
    /// must not prevent this driver from publishing.
    async fn slices(&self, driver: &str, node: &str) -> Result<Vec<ResourceSlice>, StoreError> {
        let (all, unreadable) = self.blocking(|objects| objects.list_readable::<ResourceSlice>()).await?;
        self.warn_of(&unreadable);
        let is_ours = |slice: &ResourceSlice| {
            slice.spec.driver == driver && slice.spec.node_name.as_deref() == Some(node)
        };
        Ok(all.into_iter().filter(is_ours).collect())
    }

    async fn keeps_counters(&self, _: &ResourceSlice) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn keeps_taints(&self, _: &ResourceSlice) -> Result<bool, StoreError> {
        Ok(true)
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

    async fn node(&self, name: &str) -> Result<Option<Node>, StoreError> {
        let name = name.to_owned();
        self.blocking(move |objects| objects.get(None, &name)).await
    }

    async fn claims(&self) -> Result<Vec<ResourceClaim>, StoreError> {
        let (claims, _unreadable) = self.blocking(|objects| objects.list_readable::<ResourceClaim>()).await?;
        Ok(claims)
    }

    /// Logs the event, because the directory holds only objects.
    async fn publish_event(&self, claim: &ClaimRef, event: &ClaimEvent) {
        let name = format!("{}/{}", claim.namespace, claim.name);
        tracing::warn!(claim = name, uid = claim.uid, reason = event.reason, "{}", event.message);
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
