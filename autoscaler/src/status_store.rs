//! Where the status of an InferenceAutoscaler is written: the object directory here, the API server there.

use async_trait::async_trait;
use sluice_config::api::InferenceAutoscaler;
use sluice_config::objects::ObjectDir;

/// Reads and writes whole objects; the autoscaler is their only writer.
#[async_trait]
pub(crate) trait StatusStore: Send + Sync {
    /// The object as it was written last.
    async fn read(&self, namespace: &str, name: &str) -> Result<Option<InferenceAutoscaler>, String>;

    /// Writes the object with its status.
    async fn write(&self, object: InferenceAutoscaler) -> Result<(), String>;

    /// Removes an object that its user has removed.
    async fn remove(&self, namespace: &str, name: &str) -> Result<(), String>;
}

#[async_trait]
impl StatusStore for ObjectDir {
    async fn read(&self, namespace: &str, name: &str) -> Result<Option<InferenceAutoscaler>, String> {
        let (store, namespace, name) = (self.clone(), namespace.to_owned(), name.to_owned());
        off_the_runtime(move || store.get(Some(&namespace), &name).map_err(|error| error.to_string())).await
    }

    async fn write(&self, object: InferenceAutoscaler) -> Result<(), String> {
        let store = self.clone();
        off_the_runtime(move || {
            let namespace = object.metadata.namespace.as_deref();
            let name = object.metadata.name.as_deref().unwrap_or_default();
            store.put(namespace, name, &object).map_err(|error| error.to_string())
        })
        .await
    }

    async fn remove(&self, namespace: &str, name: &str) -> Result<(), String> {
        let (store, namespace, name) = (self.clone(), namespace.to_owned(), name.to_owned());
        off_the_runtime(move || {
            let removed = store.delete::<InferenceAutoscaler>(Some(&namespace), &name);
            removed.map(drop).map_err(|error| error.to_string())
        })
        .await
    }
}

/// Files are written with fsync, which can take long: not on a thread that serves others.
async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(error.to_string()))
}
