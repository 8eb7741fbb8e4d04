//! Publishing: keeps the ResourceSlices of this node as they should be, even when something deletes them, as the
//! kubelet does at each of its starts.

mod content;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::resource::v1::ResourceSlice;
use sluice_inventory::{PublishError, SliceLayout};
use sluice_process::backoff::{Backoff, jitter};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::store::{Store, StoreError, has_counters, has_taints};
pub(crate) use content::Publication;
use content::is_same;

/// Pause after a round that wrote something or failed. It doubles while every round does.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Maximum pause. It limits the load if another program alters every slice that is written.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Outcome of the last round: `Err` has the reason why something is not published.
pub(crate) type Published = Result<(), String>;

/// Reason why a round failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoundError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The GPUs cannot be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// Writes of one round.
#[derive(Debug, PartialEq)]
struct Plan {
    put: Vec<ResourceSlice>,
    delete: Vec<String>,
    generation: i64,
}

/// Compares the existing slices with the desired ones. `last` is the last published generation, 0 for none.
///
/// As long as every existing slice has the right content, missing ones are restored in the same generation. Any other
/// difference raises the generation, so that readers never mix old and new slices.
fn plan(
    publication: &Publication,
    layout: SliceLayout,
    existing: &[ResourceSlice],
    last: i64,
) -> Result<Plan, PublishError> {
    let newest = existing.iter().map(|slice| slice.spec.pool.generation).max().unwrap_or(0).max(last);
    let current = newest.max(1);
    let desired = publication.slices(layout, current)?;
    let is_right = |slice: &ResourceSlice| {
        desired.iter().any(|desired| desired.metadata.name == slice.metadata.name && is_same(desired, slice))
    };
    if existing.iter().all(is_right) {
        let missing = |desired: &ResourceSlice| {
            !existing.iter().any(|slice| slice.metadata.name == desired.metadata.name)
        };
        let put = desired.into_iter().filter(missing).collect();
        return Ok(Plan { put, delete: Vec::new(), generation: current });
    }
    let generation = newest + 1;
    let put = publication.slices(layout, generation)?;
    let is_desired = |slice: &ResourceSlice| put.iter().any(|put| put.metadata.name == slice.metadata.name);
    let delete = existing
        .iter()
        .filter(|slice| !is_desired(slice))
        .filter_map(|slice| slice.metadata.name.clone())
        .collect();
    Ok(Plan { put, delete, generation })
}

/// Outcome of one round.
#[derive(Debug)]
struct Round {
    generation: i64,
    wrote: bool,
    /// GPUs that the store cannot represent.
    left_out: Option<LeftOut>,
}

/// Error: GPUs are not offered, because without counters their placements would be allocated one over the other.
#[derive(Debug, thiserror::Error)]
#[error(
    "{gpus} GPUs in MIG mode are not offered, because the API server drops the counters that keep their \
     placements apart: switch on the feature gate DRAPartitionableDevices of kube-apiserver and kube-scheduler, \
     or use Kubernetes 1.36 or newer, where it is on"
)]
struct LeftOut {
    gpus: usize,
}

/// Publishes until `stop`, once the content is known. `published` has the outcome of the last round.
///
/// On `stop` the slices stay, because a restart of the driver must not remove the node's devices.
pub(crate) async fn publish(
    store: Arc<dyn Store>,
    mut publications: watch::Receiver<Option<Publication>>,
    published: watch::Sender<Published>,
    stop: CancellationToken,
) {
    tokio::select! {
        known = publications.wait_for(Option::is_some) => if known.is_err() { return },
        () = stop.cancelled() => return,
    }
    let mut generation = 0;
    let mut said = String::new();
    let mut pauses = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        let Some(publication) = publications.borrow_and_update().clone() else { return };
        let round = tokio::select! {
            round = round(store.as_ref(), &publication, generation) => round,
            // Every write is complete in itself, so a round may stop between two.
            () = stop.cancelled() => return,
        };
        let is_done = round.is_ok();
        let is_at_rest = round.as_ref().is_ok_and(|round| !round.wrote);
        let outcome = match round {
            Ok(round) => {
                generation = round.generation;
                round.left_out.map_or(Ok(()), |left_out| Err(left_out.to_string()))
            }
            Err(error) => Err(format!("Failed to publish ResourceSlices, retrying: {error}")),
        };
        // Rounds follow each other quickly, so the same reason is logged once.
        match &outcome {
            Ok(()) => said.clear(),
            Err(reason) if *reason == said => {}
            Err(reason) => {
                tracing::error!("{reason}");
                said.clone_from(reason);
            }
        }
        // The outcome may be replaced before anyone reads it.
        let _ = published.send_replace(outcome);
        let pause = if is_at_rest {
            pauses.reset();
            Duration::ZERO
        } else {
            pauses.pause(jitter())
        };
        let next = async {
            tokio::time::sleep(pause).await;
            if is_done {
                store.slices_changed().await;
            }
        };
        tokio::select! {
            () = next => {}
            () = changed(&mut publications) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Waits until the content to publish changes; forever if its sender is gone.
async fn changed(publications: &mut watch::Receiver<Option<Publication>>) {
    if publications.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn round(
    store: &dyn Store,
    publication: &Publication,
    last_generation: i64,
) -> Result<Round, RoundError> {
    let layout = match publication.layout {
        Some(layout) => layout,
        None => store.slice_layout().await?,
    };
    let existing = store.slices(&publication.driver, &publication.node).await?;
    let mut publication = publication.clone();
    let mut planned = plan(&publication, layout, &existing, last_generation)?;
    let mut left_out = None;
    if let Some(trial) = planned.put.iter().find(|slice| has_taints(slice))
        && !store.keeps_taints(trial).await?
    {
        publication = publication.without_taints();
        planned = plan(&publication, layout, &existing, last_generation)?;
    }
    // Tried before anything is written, because a slice without its counters must never be visible.
    if let Some(trial) = planned.put.iter().find(|slice| has_counters(slice))
        && !store.keeps_counters(trial).await?
    {
        let reduced = publication.without_counters();
        left_out = Some(LeftOut { gpus: publication.gpus.len() - reduced.gpus.len() });
        planned = plan(&reduced, layout, &existing, last_generation)?;
    }
    for name in &planned.delete {
        store.delete_slice(name).await?;
    }
    for slice in &planned.put {
        store.put_slice(slice).await?;
    }
    let wrote = !(planned.put.is_empty() && planned.delete.is_empty());
    if wrote {
        tracing::info!(
            slices = planned.put.len(),
            removed = planned.delete.len(),
            generation = planned.generation,
            "Published ResourceSlices."
        );
    }
    Ok(Round { generation: planned.generation, wrote, left_out })
}

#[cfg(test)]
mod tests;
