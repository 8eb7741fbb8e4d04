//! Counts replicas, starts more, stops some, and returns what the placement of further ones depends on.

use k8s_openapi::api::resource::v1::ResourceClaim;
use sluice_inventory::{AllocationError, Cluster, allocate};
use sluice_scaling_policy::{Cause, Obstacle};
use tokio::time::Instant;

use super::{DeploymentState, ReplicaState, Supervisor};
use crate::capacity::CapacityView;
use crate::platform::local::claims;
use crate::platform::local::cluster::read_cluster;
use crate::platform::local::messages::ReplicaPhase;
use crate::platform::local::records::ReplicaRecord;
use crate::platform::local::victims::{self, Candidate};
use crate::platform::{Batcher, PlatformError, Replicas, Target};

impl Supervisor {
    fn scaled(&self, target: &Target) -> Result<&DeploymentState, PlatformError> {
        let known = self.targets.get(target).filter(|scaled| !scaled.removed);
        known.ok_or_else(|| PlatformError::UnknownTarget(target.to_string()))
    }

    pub(super) fn replicas_of(&mut self, target: &Target) -> Result<Replicas, PlatformError> {
        self.update_ready(target);
        let scaled = self.scaled(target)?;
        let admin_url = scaled.deployment.spec.gateway.admin_url.trim_end_matches('/').to_owned();
        let mut replicas = Replicas {
            startup_ms: scaled.startup.smoothed_ms(),
            batchers: vec![Batcher {
                name: admin_url.clone(),
                metrics_url: format!("{admin_url}/metrics"),
                is_required: true,
                started_ms: None,
            }],
            ..Replicas::default()
        };
        let mut failing: Option<Obstacle> = None;
        for ((_, name), known) in self.replicas.iter().filter(|(_, known)| known.target == *target) {
            match known {
                ReplicaState { is_ending: true, .. } => replicas.terminating += 1,
                ReplicaState { is_ready: true, .. } => replicas.ready += 1,
                _ => {
                    replicas.starting += 1;
                    count_failing(name, known, &mut failing);
                }
            }
        }
        replicas.asked = replicas.ready + replicas.starting;
        replicas.standing.obstacles.extend(failing);
        Ok(replicas)
    }

    /// Updates which replicas take traffic, as the gateway reports; without a report the last one counts.
    fn update_ready(&mut self, target: &Target) {
        let Some(scaled) = self.targets.get(target) else { return };
        let snapshot = scaled.gateway.borrow().clone();
        for known in self.replicas.values_mut().filter(|known| known.target == *target) {
            match &known.phase {
                ReplicaPhase::Serving { member } => {
                    known.is_ready = snapshot.is_ready(member).unwrap_or(known.is_ready);
                    if known.is_ready {
                        known.failed = None;
                    }
                }
                _ => known.is_ready = false,
            }
        }
    }

    pub(super) async fn set_replicas(&mut self, target: &Target, wanted: u32) -> Result<u32, PlatformError> {
        let replicas = self.replicas_of(target)?;
        if wanted < replicas.asked {
            self.shrink(target, (replicas.asked - wanted) as usize);
            return Ok(wanted);
        }
        self.grow(target, replicas.asked, wanted).await
    }

    fn shrink(&mut self, target: &Target, count: usize) {
        let candidates = self
            .replicas
            .iter()
            .filter(|(_, known)| known.target == *target && !known.is_ending)
            .map(|((_, name), known)| Candidate {
                name: name.clone(),
                is_ready: known.is_ready,
                sequence: known.sequence,
            })
            .collect();
        for name in victims::choose(candidates, count) {
            if let Some(known) = self.replicas.get_mut(&(target.namespace.clone(), name)) {
                known.is_ending = true;
                known.stop.cancel();
            }
        }
    }

    async fn grow(&mut self, target: &Target, mut asked: u32, wanted: u32) -> Result<u32, PlatformError> {
        let asked_at = Instant::now();
        let class = self.scaled(target)?.deployment.spec.claim.device_class_name.clone();
        let mut cluster = self.cluster().await?;
        while asked < wanted {
            let name = self.free_name(target);
            let uid = uuid::Uuid::new_v4().to_string();
            let mut claim = claims::new(&target.namespace, &name, &uid, &class, &target.name);
            match allocate(&cluster, &claim) {
                Ok(allocation) => claims::allocate_to(&mut claim, allocation.result),
                // Another process has taken the slice since it was counted; the next decision counts again.
                Err(AllocationError::NoFit { reason }) => {
                    tracing::warn!(%target, asked, wanted, reason, "Fewer replicas than wanted: no slice is free.");
                    break;
                }
                Err(refusal) => return Err(PlatformError::Unavailable(refusal.to_string())),
            }
            let record = self.claim(target, &name, uid, &claim).await?;
            cluster.claims.push(claim);
            self.spawn(target, record, Some(asked_at), false);
            asked += 1;
        }
        Ok(asked)
    }

    /// Writes the record, then the claim, because a claim without a record would stay forever.
    async fn claim(
        &self,
        target: &Target,
        name: &str,
        uid: String,
        claim: &ResourceClaim,
    ) -> Result<ReplicaRecord, PlatformError> {
        let record = ReplicaRecord {
            namespace: target.namespace.clone(),
            deployment: target.name.clone(),
            name: name.to_owned(),
            claim_uid: uid,
            driver: claims::driver(claim).unwrap_or_default().to_owned(),
            process: None,
            port: None,
            member: None,
            starts: 0,
            terminating: false,
        };
        let (records, store) = (self.shared.records.clone(), self.config.store.clone());
        let (written, claim) = (record.clone(), claim.clone());
        off_the_runtime(move || {
            records.put(&written)?;
            Ok(store.put(Some(&written.namespace), &written.name, &claim).inspect_err(|_| {
                let _ = records.remove(&written);
            })?)
        })
        .await?;
        Ok(record)
    }

    /// Returns `<deployment>-<n>` with the smallest n that neither a replica nor the gateway uses.
    fn free_name(&self, target: &Target) -> String {
        let gateway = self.targets.get(target).map(|scaled| scaled.gateway.borrow().clone());
        let is_taken = |name: &String| {
            self.replicas.contains_key(&(target.namespace.clone(), name.clone()))
                || gateway.as_ref().is_some_and(|gateway| gateway.lists(name) == Some(true))
        };
        let mut names = (0_u32..).map(|index| format!("{}-{index}", target.name));
        names.find(|name| !is_taken(name)).unwrap_or_default()
    }

    pub(super) async fn capacity(&self, target: &Target) -> Result<CapacityView, PlatformError> {
        let device_class = self.scaled(target)?.deployment.spec.claim.device_class_name.clone();
        // Every replica that was asked for has its claim already, so no slice is merely promised.
        Ok(CapacityView {
            namespace: target.namespace.clone(),
            cluster: self.cluster().await?,
            device_class: Some(device_class),
            ..CapacityView::default()
        })
    }

    async fn cluster(&self) -> Result<Cluster, PlatformError> {
        let store = self.config.store.clone();
        off_the_runtime(move || read_cluster(&store)).await
    }
}

/// Counts a replica as failing after its second failure; after the first one it is only started again.
fn count_failing(name: &str, known: &ReplicaState, failing: &mut Option<Obstacle>) {
    let Some((why, times)) = known.failed.as_ref().filter(|(_, times)| *times > 1) else { return };
    match failing {
        Some(first) => first.replicas += 1,
        None => {
            *failing = Some(Obstacle {
                cause: Cause::CrashLoopBackOff,
                replicas: 1,
                pod: name.to_owned(),
                container: String::new(),
                detail: format!("{why}, {times} times"),
                since: String::new(),
            });
        }
    }
}

async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> Result<T, PlatformError> {
    let done = tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(error.into()));
    done.map_err(|error| PlatformError::Unavailable(error.to_string()))
}
