//! What the kubelet asks for, one claim at a time: the store, the slices and the metrics brought
//! together.
//!
//! A call goes on when its caller hangs up: the kubelet gives up after 45 s and asks again, and half of a
//! prepare is worth nothing. A second call for the same claim waits for it, since the kubelet would come back
//! only after more than a minute: two pods share the claim, or the kubelet was restarted in the midst.

pub(crate) mod in_progress;
pub(crate) mod reconcile;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::allocation::{ClaimAllocationError, NodeDevices};
use crate::checkpoint::DeviceRecord;
use crate::checkpoint::store::CheckpointError;
use crate::device_state::{DeviceState, DeviceStateError, Released};
use crate::metrics::{ClaimMetrics, Operation};
pub(crate) use crate::store::ClaimRef;
use crate::store::{ClaimEvent, Store, StoreError};
use in_progress::{Busy, InProgress, InProgressGuard};

/// How long a call waits for an earlier one of the same claim. The kubelet gives up after 45 s; the rest is
/// for the call's own work.
const PATIENCE: Duration = Duration::from_secs(38);

/// How long a prepare waits for a device that another claim holds: long enough for a holder that is gone to be
/// released, and short for one that is not, which a scheduler never lets happen.
const HOLDER_PATIENCE: Duration = Duration::from_secs(5);

/// Why a call of the kubelet failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClaimError {
    /// Not a UID: it becomes a part of file names.
    #[error("claim uid {0:?} is not valid; letters, digits and '-' are, up to 64 of them")]
    Uid(String),
    /// An earlier call for the same claim goes on.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// The store did not answer.
    #[error("reading the claim: {0}")]
    Store(#[from] StoreError),
    /// There is no such claim.
    #[error("there is no such claim; it was deleted")]
    Absent,
    /// Nothing is known of the GPUs yet.
    #[error("the GPUs of this node are not known yet: {0}")]
    GpusUnknown(String),
    /// The claim is not for this node, or not in a form that it takes.
    #[error(transparent)]
    Allocation(#[from] ClaimAllocationError),
    /// The GPUs, the checkpoint or the CDI folder refused.
    #[error(transparent)]
    Devices(#[from] DeviceStateError),
    /// A bug: the operation panicked.
    #[error("internal error: {0}")]
    Panicked(String),
}

/// Everything that a claim's call needs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Claims {
    /// Where claims come from.
    pub store: Arc<dyn Store>,
    /// What this node publishes; `None` while it is not known.
    pub node: watch::Receiver<Option<Arc<NodeDevices>>>,
    /// Whether the GPUs can be asked; the reason where they cannot.
    pub session: watch::Receiver<Result<(), String>>,
    /// What makes and takes back slices.
    pub device_state: Arc<DeviceState>,
    /// Which claims are worked on now.
    pub in_progress: InProgress,
    /// Durations and outcomes.
    pub metrics: ClaimMetrics,
    /// Woken when a device was held by another claim, which may be gone.
    pub stale: Arc<Notify>,
    /// Woken when a GPU did not do what was asked of it.
    pub nudge: Arc<Notify>,
}

impl Claims {
    /// Prepares a claim; answers its devices.
    ///
    /// # Errors
    /// [`ClaimError`]; every call may be repeated.
    pub(crate) async fn prepare(&self, claim: ClaimRef) -> Result<Vec<DeviceRecord>, ClaimError> {
        let this = self.clone();
        let name = format!("{}/{}", claim.namespace, claim.name);
        let uid = claim.uid.clone();
        let work = async {
            check_uid(&claim.uid)?;
            // A caller that hangs up while it waits has begun nothing.
            let mark = this.in_progress.join(&claim.uid, "prepare", PATIENCE).await?;
            match this.prepare_detached(mark, &claim).await {
                Err(ClaimError::Devices(DeviceStateError::Checkpoint(CheckpointError::DeviceHeld(held)))) => {
                    this.stale.notify_one();
                    let gone = this.device_state.checkpoints().ended(&held.uid);
                    if tokio::time::timeout(HOLDER_PATIENCE, gone).await.is_err() {
                        return Err(DeviceStateError::Checkpoint(CheckpointError::DeviceHeld(held)).into());
                    }
                    let mark = this.in_progress.join(&claim.uid, "prepare", PATIENCE).await?;
                    this.prepare_detached(mark, &claim).await
                }
                result => result,
            }
        };
        let result = self.metrics.timed(Operation::Prepare, work).await;
        match &result {
            Ok(devices) => {
                let devices: Vec<&str> = devices.iter().map(|d| d.device.as_str()).collect();
                tracing::info!(claim = name, uid, ?devices, "Prepared a claim.");
            }
            Err(error) => tracing::warn!(claim = name, uid, %error, "Could not prepare a claim."),
        }
        result
    }

    /// Unprepares a claim. A claim that is not known is a success.
    ///
    /// # Errors
    /// [`ClaimError`]; every call may be repeated.
    pub(crate) async fn unprepare(&self, claim: ClaimRef) -> Result<(), ClaimError> {
        let this = self.clone();
        let name = format!("{}/{}", claim.namespace, claim.name);
        let uid = claim.uid.clone();
        let work = async {
            check_uid(&claim.uid)?;
            let mark = this.in_progress.join(&claim.uid, "unprepare", PATIENCE).await?;
            let this = this.clone();
            detached(async move { this.unprepare_marked(mark, &claim).await }).await
        };
        let result = self.metrics.timed(Operation::Unprepare, work).await;
        match &result {
            Ok(()) => tracing::info!(claim = name, uid, "Unprepared a claim."),
            Err(error) => tracing::warn!(claim = name, uid, %error, "Could not unprepare a claim."),
        }
        result
    }

    async fn prepare_detached(
        &self,
        mark: InProgressGuard,
        claim: &ClaimRef,
    ) -> Result<Vec<DeviceRecord>, ClaimError> {
        let (this, claim) = (self.clone(), claim.clone());
        detached(async move { this.prepare_now(mark, &claim).await }).await
    }

    async fn prepare_now(
        &self,
        busy: InProgressGuard,
        claim: &ClaimRef,
    ) -> Result<Vec<DeviceRecord>, ClaimError> {
        let object = self.store.claim(&claim.namespace, &claim.name).await?.ok_or(ClaimError::Absent)?;
        let node = self.node().await?;
        let wanted = node.devices_for(&object, &claim.uid)?;
        let (device_state, claim) = (Arc::clone(&self.device_state), claim.clone());
        let result = blocking(move || {
            // Held until the work is done, not until the caller has had enough.
            let _busy = busy;
            with_session(&device_state, || {
                device_state.prepare(&claim.uid, &claim.namespace, &claim.name, wanted.clone())
            })
        })
        .await?;
        if result.is_err() {
            self.nudge.notify_one();
        }
        Ok(result?)
    }

    /// What the node publishes. At boot NVIDIA's driver may come later than the kubelet's first claims.
    async fn node(&self) -> Result<Arc<NodeDevices>, ClaimError> {
        let mut node = self.node.clone();
        let known = tokio::time::timeout(PATIENCE, node.wait_for(Option::is_some)).await;
        let known = known.ok().and_then(|known| known.ok()?.clone());
        let why = || self.session.borrow().clone().err().unwrap_or_default();
        known.ok_or_else(|| ClaimError::GpusUnknown(why()))
    }

    async fn unprepare_marked(&self, busy: InProgressGuard, claim: &ClaimRef) -> Result<(), ClaimError> {
        let (device_state, uid) = (Arc::clone(&self.device_state), claim.uid.clone());
        let result = blocking(move || {
            let _busy = busy;
            with_session(&device_state, || device_state.unprepare(&uid))
        })
        .await?;
        match result {
            Ok(Released { without_gpu }) => {
                for (device, error) in without_gpu {
                    let message = format!("device {device} was released without its GPU: {error}");
                    self.store
                        .publish_event(claim, &ClaimEvent { reason: "ReleasedWithoutGPU", message })
                        .await;
                    self.nudge.notify_one();
                }
                Ok(())
            }
            Err(error) => {
                self.nudge.notify_one();
                Err(error.into())
            }
        }
    }
}

/// Runs `act`, and once more when NVML had to be opened again for it.
fn with_session<T>(
    device_state: &DeviceState,
    act: impl Fn() -> Result<T, DeviceStateError>,
) -> Result<T, DeviceStateError> {
    match act() {
        Err(error) if error.needs_session() && device_state.refresh().is_ok() => act(),
        result => result,
    }
}

fn check_uid(uid: &str) -> Result<(), ClaimError> {
    let valid = (1..=64).contains(&uid.len()) && uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if valid { Ok(()) } else { Err(ClaimError::Uid(uid.to_owned())) }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ClaimError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| ClaimError::Panicked(error.to_string()))
}

/// Runs to its end even when the caller is dropped.
async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, ClaimError>> + Send + 'static,
) -> Result<T, ClaimError> {
    match tokio::spawn(work).await {
        Ok(result) => result,
        Err(error) => Err(ClaimError::Panicked(error.to_string())),
    }
}

#[cfg(test)]
mod tests;
