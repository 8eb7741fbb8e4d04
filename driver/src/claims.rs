//! Operations of the kubelet, one claim at a time: this module connects the store, the device state and the metrics.
//!
//! An operation continues when its caller hangs up: the kubelet gives up after 45 s and calls again, and half of a
//! prepare is useless. A second call for the same claim waits for the first, because the kubelet would retry a failed
//! call only after more than a minute. That happens when two pods share the claim, or when the kubelet was restarted
//! during a call.

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

/// Maximum wait for an earlier call for the same claim. The kubelet gives up after 45 s; the rest is for the call's
/// own work.
const PATIENCE: Duration = Duration::from_secs(38);

/// Maximum wait of a prepare for a device that another claim holds. It is long enough to release a holder that does
/// not exist any more; a scheduler never allocates a device of a holder that does.
const HOLDER_PATIENCE: Duration = Duration::from_secs(5);

/// Reason why a call of the kubelet failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClaimError {
    /// The UID is not valid. It becomes part of file names.
    #[error("claim uid {0:?} is not valid; letters, digits and '-' are, up to 64 of them")]
    Uid(String),
    /// An earlier call for the same claim is still running.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// The store could not be read.
    #[error("reading the claim: {0}")]
    Store(#[from] StoreError),
    /// The claim object does not exist.
    #[error("there is no such claim; it was deleted")]
    Absent,
    /// The GPUs of the node have not been found yet.
    #[error("the GPUs of this node are not known yet: {0}")]
    GpusUnknown(String),
    /// The claim cannot be prepared on this node.
    #[error(transparent)]
    Allocation(#[from] ClaimAllocationError),
    /// The GPUs, the checkpoint or the CDI directory failed.
    #[error(transparent)]
    Devices(#[from] DeviceStateError),
    /// A bug: the operation panicked.
    #[error("internal error: {0}")]
    Panicked(String),
}

/// Dependencies of the operations on claims. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Claims {
    /// Source of claim objects.
    pub store: Arc<dyn Store>,
    /// Devices that this node publishes; `None` until they are known.
    pub node: watch::Receiver<Option<Arc<NodeDevices>>>,
    /// Whether the GPUs can be queried, or why not.
    pub session: watch::Receiver<Result<(), String>>,
    /// State of the node's devices.
    pub device_state: Arc<DeviceState>,
    /// Claims with an operation in progress.
    pub in_progress: InProgress,
    pub metrics: ClaimMetrics,
    /// Notified when another claim, which may not exist any more, holds a requested device.
    pub stale: Arc<Notify>,
    /// Notified when a GPU operation failed, so that the monitor checks the GPUs.
    pub nudge: Arc<Notify>,
}

impl Claims {
    /// Prepares a claim and returns its devices.
    ///
    /// # Errors
    /// Returns a [`ClaimError`]; every call may be repeated.
    pub(crate) async fn prepare(&self, claim: ClaimRef) -> Result<Vec<DeviceRecord>, ClaimError> {
        let this = self.clone();
        let name = format!("{}/{}", claim.namespace, claim.name);
        let uid = claim.uid.clone();
        let work = async {
            check_uid(&claim.uid)?;
            // A caller that hangs up during this wait has started nothing.
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
            Err(error) => tracing::warn!(claim = name, uid, %error, "Failed to prepare a claim."),
        }
        result
    }

    /// Unprepares a claim. An unknown claim is a success.
    ///
    /// # Errors
    /// Returns a [`ClaimError`]; every call may be repeated.
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
            Err(error) => tracing::warn!(claim = name, uid, %error, "Failed to unprepare a claim."),
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
            // Keeps the claim marked until the work is done, even if the caller is gone.
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

    /// Waits for the devices that the node publishes. At boot NVIDIA's driver may start later than the kubelet's
    /// first claims arrive.
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

/// Runs `act`, and again if it failed because NVML had to be reopened and was.
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

/// Runs the work to its end even if the caller is dropped.
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
