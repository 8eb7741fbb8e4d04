//! Keeps this node's ResourceSlices as they should be, whoever wipes them: the kubelet does at every
//! start of its own.

use std::sync::Arc;

use k8s_openapi::api::resource::v1::ResourceSlice;
use sluice_inventory::{Form, Gpu, PublishError, resource_slices};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::store::{Store, StoreError};

/// What to publish.
#[derive(Debug, Clone)]
pub struct Publication {
    /// Name of the node.
    pub node: String,
    /// Name of the driver.
    pub driver: String,
    /// The node's GPUs.
    pub gpus: Vec<Gpu>,
    /// Form that the API server takes.
    pub form: Form,
}

impl Publication {
    /// The slices of one generation of the pool.
    ///
    /// # Errors
    /// When the node's name or GPUs cannot be published.
    pub fn slices(&self, generation: i64) -> Result<Vec<ResourceSlice>, PublishError> {
        resource_slices(&self.node, &self.driver, &self.gpus, self.form, generation)
    }
}

/// Why a round of publishing failed.
#[derive(Debug, thiserror::Error)]
pub enum RoundError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The GPUs cannot be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// What one round has to do.
#[derive(Debug, PartialEq)]
struct Plan {
    put: Vec<ResourceSlice>,
    delete: Vec<String>,
    generation: i64,
}

/// Compares what is with what should be. `last` is the generation that was published last, 0 for none.
///
/// As long as every slice that is there has the right content, missing ones are put back in the same
/// generation. Any other difference raises it, so that no reader ever mixes old slices with new ones.
fn plan(publication: &Publication, existing: &[ResourceSlice], last: i64) -> Result<Plan, PublishError> {
    let newest = existing.iter().map(|slice| slice.spec.pool.generation).max().unwrap_or(0).max(last);
    let current = newest.max(1);
    let desired = publication.slices(current)?;
    let is_right = |slice: &ResourceSlice| {
        desired
            .iter()
            .any(|desired| desired.metadata.name == slice.metadata.name && desired.spec == slice.spec)
    };
    if existing.iter().all(is_right) {
        let missing = |desired: &ResourceSlice| {
            !existing.iter().any(|slice| slice.metadata.name == desired.metadata.name)
        };
        let put = desired.into_iter().filter(missing).collect();
        return Ok(Plan { put, delete: Vec::new(), generation: current });
    }
    let generation = newest + 1;
    let put = publication.slices(generation)?;
    let is_desired = |slice: &ResourceSlice| put.iter().any(|put| put.metadata.name == slice.metadata.name);
    let delete = existing
        .iter()
        .filter(|slice| !is_desired(slice))
        .filter_map(|slice| slice.metadata.name.clone())
        .collect();
    Ok(Plan { put, delete, generation })
}

/// Publishes until `stop`; `published` tells whether the last round succeeded.
///
/// On `stop` the slices stay: a restart of the driver must not take the node's devices away.
pub async fn publish(
    store: Arc<dyn Store>,
    publication: Publication,
    published: watch::Sender<bool>,
    stop: CancellationToken,
) {
    let mut generation = 0;
    let mut said = String::new();
    loop {
        match round(store.as_ref(), &publication, generation).await {
            Ok(current) => {
                generation = current;
                published.send_replace(true);
                said.clear();
            }
            Err(error) => {
                published.send_replace(false);
                // Rounds follow each other quickly; what has been said is not said again.
                if error.to_string() != said {
                    tracing::warn!(%error, "ResourceSlices could not be published; trying again.");
                    said = error.to_string();
                }
            }
        }
        tokio::select! {
            () = store.slices_changed() => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn round(
    store: &dyn Store,
    publication: &Publication,
    last_generation: i64,
) -> Result<i64, RoundError> {
    let existing = store.slices(&publication.driver, &publication.node).await?;
    let plan = plan(publication, &existing, last_generation)?;
    for name in &plan.delete {
        store.delete_slice(name).await?;
    }
    for slice in &plan.put {
        store.put_slice(slice).await?;
    }
    if !plan.put.is_empty() {
        tracing::info!(
            slices = plan.put.len(),
            removed = plan.delete.len(),
            generation = plan.generation,
            "Published ResourceSlices."
        );
    }
    Ok(plan.generation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;

    fn publication(form: Form) -> Publication {
        let gpus = vec![crate::gpus::fake::gpu()];
        Publication { node: "n".to_owned(), driver: "gpu.sluice.dev".to_owned(), gpus, form }
    }

    #[test]
    fn what_is_right_is_left_and_what_is_missing_comes_back_in_its_generation() {
        let publication = publication(Form::Split);
        let all = publication.slices(3).unwrap();
        assert!(all.len() > 1);
        assert_eq!(plan(&publication, &all, 3).unwrap().put, []);
        assert_eq!(plan(&publication, &all[1..], 3).unwrap().put, all[..1]);
        assert_eq!(plan(&publication, &[], 3).unwrap().put, all);
        assert_eq!(plan(&publication, &[], 0).unwrap().put, publication.slices(1).unwrap());
    }

    #[test]
    fn changed_content_raises_the_generation_and_drops_slices_of_the_old_form() {
        let old = publication(Form::Split).slices(3).unwrap();
        let new = publication(Form::Combined);
        let plan = plan(&new, &old, 0).unwrap();
        assert_eq!(plan.put, new.slices(4).unwrap());
        let names = |slices: &[ResourceSlice]| -> std::collections::BTreeSet<Option<String>> {
            slices.iter().map(|slice| slice.metadata.name.clone()).collect()
        };
        let left: Vec<_> = names(&old).difference(&names(&plan.put)).flatten().cloned().collect();
        assert_eq!(plan.delete, left);
        assert!(!left.is_empty());
    }

    #[tokio::test]
    async fn wiped_slices_come_back() {
        let store = Arc::new(MemoryStore::default());
        let (published, mut is_published) = watch::channel(false);
        let stop = CancellationToken::new();
        let publisher =
            tokio::spawn(publish(store.clone(), publication(Form::Split), published, stop.clone()));
        is_published.wait_for(|published| *published).await.unwrap();
        let before = store.slices("", "").await.unwrap();
        for slice in &before {
            is_published.mark_unchanged();
            store.delete_slice(slice.metadata.name.as_deref().unwrap()).await.unwrap();
            is_published.changed().await.unwrap();
        }
        while store.slices("", "").await.unwrap() != before {
            is_published.changed().await.unwrap();
        }
        stop.cancel();
        publisher.await.unwrap();
    }
}
