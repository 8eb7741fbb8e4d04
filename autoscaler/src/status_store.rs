//! Store of the status of InferenceAutoscalers: the object directory on one machine, the API server in a cluster.

use async_trait::async_trait;
use sluice_config::api::InferenceAutoscaler;
use sluice_config::objects::ObjectDir;

/// Store of whole objects, which only the autoscaler writes.
#[async_trait]
pub(crate) trait StatusStore: Send + Sync {
    /// Returns the object as it was written last; `None` where it was never written.
    async fn read(&self, namespace: &str, name: &str) -> anyhow::Result<Option<InferenceAutoscaler>>;

    /// Writes the object with its status.
    async fn write(&self, object: InferenceAutoscaler) -> anyhow::Result<()>;

    /// Removes an object that its user has removed.
    async fn remove(&self, namespace: &str, name: &str) -> anyhow::Result<()>;
}

#[async_trait]
impl StatusStore for ObjectDir {
    async fn read(&self, namespace: &str, name: &str) -> anyhow::Result<Option<InferenceAutoscaler>> {
        let (store, namespace, name) = (self.clone(), namespace.to_owned(), name.to_owned());
        off_the_runtime(move || Ok(store.get(Some(&namespace), &name)?)).await
    }

    async fn write(&self, object: InferenceAutoscaler) -> anyhow::Result<()> {
        let store = self.clone();
        off_the_runtime(move || {
            let namespace = object.metadata.namespace.as_deref();
            let name = object.metadata.name.as_deref().unwrap_or_default();
            Ok(store.put(namespace, name, &object)?)
        })
        .await
    }

    async fn remove(&self, namespace: &str, name: &str) -> anyhow::Result<()> {
        let (store, namespace, name) = (self.clone(), namespace.to_owned(), name.to_owned());
        off_the_runtime(move || {
            store.delete::<InferenceAutoscaler>(Some(&namespace), &name)?;
            Ok(())
        })
        .await
    }
}

/// Runs file access on a thread for blocking work, because fsync can take long.
async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await?
}
