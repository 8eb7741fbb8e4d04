//! Reconciliation of prepared claims: releases devices of claims that do not exist any more, and completes releases
//! that failed.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{ClaimError, ClaimRef, Claims};
use crate::checkpoint::{ClaimRecord, DeviceRecord, Phase};

impl Claims {
    /// Reconciles now, then every `interval` and whenever a claim needs a device that another one holds, until
    /// `stop`.
    pub(crate) async fn reconcile(self, interval: Duration, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(interval);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.stale.notified() => {}
                () = stop.cancelled() => return,
            }
            self.reconcile_once(&stop).await;
        }
    }

    /// Checks each claim in the checkpoint once. On `stop`, a release that is under way is completed.
    pub(crate) async fn reconcile_once(&self, stop: &CancellationToken) {
        let checkpoint = self.device_state.checkpoints().checkpoint();
        for (uid, record) in &checkpoint.claims {
            let why = tokio::select! {
                why = self.why_release(uid, record) => why,
                () = stop.cancelled() => return,
            };
            let Some(why) = why else {
                self.restore_cdi(uid).await;
                continue;
            };
            let claim = format!("{}/{}", record.namespace, record.name);
            match self.release(uid).await {
                Ok(false) => {}
                Ok(true) => tracing::info!(claim, uid, why, "Released the devices of a claim."),
                Err(ClaimError::Busy(_)) => {}
                Err(error) => {
                    tracing::warn!(claim, uid, why, %error, "Failed to release the devices of a claim, retrying.");
                }
            }
        }
    }

    /// Restores the CDI file of a claim, unless an operation on the claim is in progress.
    async fn restore_cdi(&self, uid: &str) {
        let Ok(busy) = self.in_progress.begin(uid, "look at the CDI file") else { return };
        let (device_state, owned) = (Arc::clone(&self.device_state), uid.to_owned());
        let restored = super::blocking(move || {
            let _busy = busy;
            device_state.restore_cdi(&owned)
        });
        if let Ok(Err(error)) = restored.await {
            tracing::warn!(uid, %error, "Failed to restore the CDI file of a claim.");
        }
    }

    /// Releases a claim if that is still due once no other operation on it is in progress: the kubelet may have
    /// prepared it again since the check. Returns whether it was released.
    async fn release(&self, uid: &str) -> Result<bool, ClaimError> {
        let busy = self.in_progress.begin(uid, "release")?;
        let checkpoint = self.device_state.checkpoints().checkpoint();
        let Some(record) = checkpoint.claims.get(uid) else { return Ok(false) };
        if self.why_release(uid, record).await.is_none() {
            return Ok(false);
        }
        let (namespace, name) = (record.namespace.clone(), record.name.clone());
        self.unprepare_marked(busy, &ClaimRef { namespace, name, uid: uid.to_owned() }).await?;
        Ok(true)
    }

    async fn why_release(&self, uid: &str, record: &ClaimRecord) -> Option<&'static str> {
        if record.phase == Phase::Releasing {
            return Some("its release was not finished");
        }
        match self.store.claim(&record.namespace, &record.name).await {
            Ok(Some(object)) if object.metadata.uid.as_deref() == Some(uid) => {
                let node = self.node.borrow().clone()?;
                let has = |device: &DeviceRecord| node.is_allocated(&object, &device.device);
                (!record.devices.iter().all(has)).then_some("it was deallocated, or given other devices")
            }
            Ok(Some(_)) => Some("another claim has its name"),
            Ok(None) => Some("it was deleted"),
            // An error says nothing about the claim.
            Err(error) => {
                tracing::warn!(uid, %error, "Failed to check whether a claim still exists.");
                None
            }
        }
    }
}
