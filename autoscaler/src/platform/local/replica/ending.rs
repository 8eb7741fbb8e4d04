//! Ends a replica: removes it from the gateway, drains and stops it, gives its slice back, deletes its record.

use std::time::Duration;

use k8s_openapi::api::resource::v1::ResourceClaim;
use tokio::time::Instant;

use super::{CALL_PAUSES, Replica, ReplicaPhase};
use crate::platform::local::gateway::{Drained, drained};
use crate::platform::local::process::{Process, kill_leftovers};
use sluice_process::backoff::{Backoff, jitter};

impl Replica {
    /// Cleans up after a failure: stops the process; the claim stays prepared.
    pub(super) async fn clear(&mut self, process: Option<Process>) {
        self.leave().await;
        self.stop_process(process).await;
        self.record.process = None;
        self.record.member = None;
        self.save();
    }

    pub(super) async fn end(mut self, process: Option<Process>) {
        self.report(ReplicaPhase::Ending).await;
        self.record.terminating = true;
        self.save();
        if let Some(member) = self.leave().await {
            let since = Instant::now();
            let within = Duration::from_secs(u64::from(self.deployment.spec.termination.drain_seconds));
            // A dead model server has no requests to finish.
            if process.is_some() {
                match drained(&mut self.gateway, &member, since, within).await {
                    Drained::Forgotten => {}
                    Drained::GatewayGone => {
                        tracing::warn!(
                            replica = self.record.name,
                            "The gateway is gone; stopping the replica without a drain."
                        );
                    }
                    Drained::TimedOut => {
                        tracing::warn!(
                            replica = self.record.name,
                            drain_ms = within.as_millis(),
                            "The gateway did not drain the replica in time; stopping it."
                        );
                    }
                }
            }
        }
        self.stop_process(process).await;
        self.give_back().await;
        self.report(ReplicaPhase::Gone).await;
    }

    /// Removes the replica from the gateway's file. Returns the name that it had there.
    async fn leave(&mut self) -> Option<String> {
        let member = self.record.member.clone()?;
        let mut pauses = Backoff::new(CALL_PAUSES.0, CALL_PAUSES.1);
        while let Err(error) = self.members.leave(&member).await {
            tracing::warn!(member, %error, "Failed to write the gateway's members file; trying again.");
            tokio::time::sleep(pauses.pause(jitter())).await;
        }
        Some(member)
    }

    async fn stop_process(&self, process: Option<Process>) {
        if let Some(mut process) = process {
            process
                .stop(Duration::from_secs(u64::from(self.deployment.spec.termination.grace_seconds)))
                .await;
        }
        if self.record.starts > 0 {
            kill_leftovers(&self.record.claim_uid);
        }
    }

    /// Unprepares the claim, deletes it, then deletes the record. In this order a restart in between repeats a step and skips
    /// none.
    async fn give_back(&mut self) {
        let mut pauses = Backoff::new(CALL_PAUSES.0, CALL_PAUSES.1);
        loop {
            match self.try_give_back().await {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(
                        replica = self.record.name,
                        %error,
                        "Failed to give a slice back; trying again."
                    );
                }
            }
            tokio::time::sleep(pauses.pause(jitter())).await;
        }
    }

    async fn try_give_back(&self) -> anyhow::Result<()> {
        self.shared.kubelet.unprepare(&self.claim()).await?;
        let (store, records, record) =
            (self.shared.store.clone(), self.shared.records.clone(), self.record.clone());
        let forgotten = tokio::task::spawn_blocking(move || -> anyhow::Result<()> {
            let (namespace, name) = (Some(record.namespace.as_str()), record.name.as_str());
            let claim = store.get::<ResourceClaim>(namespace, name)?;
            // Another claim of the same name stays.
            if claim.is_some_and(|claim| claim.metadata.uid.as_deref() == Some(&record.claim_uid)) {
                store.delete::<ResourceClaim>(namespace, name)?;
            }
            Ok(records.remove(&record)?)
        });
        forgotten.await?
    }
}
