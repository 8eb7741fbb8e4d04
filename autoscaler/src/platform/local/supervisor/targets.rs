//! Defines, adopts and forgets deployments and their replicas.

use std::io;
use std::sync::Arc;

use k8s_openapi::api::resource::v1::ResourceClaim;
use sluice_config::api::LocalDeployment;

use super::{DeploymentState, Deployments, Supervisor};
use crate::platform::Target;
use crate::platform::local::gateway;
use crate::platform::local::members::{Members, MembersFile};
use crate::platform::local::records::ReplicaRecord;
use crate::platform::local::startup::Startup;

impl Supervisor {
    /// Replaces all deployments. `adopted` are replicas that may still be upstreams of a gateway.
    pub(super) fn define(&mut self, deployments: Deployments, adopted: &[ReplicaRecord]) {
        for (target, deployment) in &deployments {
            if let Err(error) = self.config.store.put(
                Some(&target.namespace),
                &target.name,
                &with_namespace(deployment, &target.namespace),
            ) {
                tracing::warn!(%target, %error, "Failed to write the LocalDeployment to the store.");
            }
        }
        for (target, deployment) in deployments.clone() {
            match self.targets.get_mut(&target) {
                Some(known) => {
                    if known.deployment.spec.gateway != deployment.spec.gateway {
                        tracing::warn!(%target, "spec.gateway changed; this takes effect when the autoscaler is started again.");
                    }
                    if known.deployment.spec != deployment.spec {
                        tracing::info!(%target, "The LocalDeployment changed; replicas that are started from now on follow it.");
                    }
                    known.deployment = deployment;
                    known.removed = false;
                }
                None => self.add_target(target, deployment, adopted),
            }
        }
        let removed: Vec<Target> =
            self.targets.keys().filter(|target| !deployments.contains_key(target)).cloned().collect();
        for target in removed {
            if let Some(scaled) = self.targets.get_mut(&target) {
                scaled.removed = true;
            }
            self.end_where(|known| known.target == target);
        }
        self.forget_removed();
    }

    /// Forgets targets that are no longer defined and have no replicas left.
    pub(super) fn forget_removed(&mut self) {
        let Self { targets, replicas, config, .. } = self;
        targets.retain(|target, scaled| {
            let stays = !scaled.removed || replicas.values().any(|known| known.target == *target);
            if !stays {
                scaled.stop_gateway.cancel();
                if let Err(error) = config.store.delete::<LocalDeployment>(Some(&target.namespace), &target.name) {
                    tracing::warn!(%target, %error, "Failed to delete a removed LocalDeployment from the store.");
                }
            }
            stays
        });
    }

    fn add_target(&mut self, target: Target, deployment: Arc<LocalDeployment>, adopted: &[ReplicaRecord]) {
        let upstream = |record: &ReplicaRecord| {
            let alive = record.process.as_ref()?.is_alive().unwrap_or(true);
            let address = format!("127.0.0.1:{}", record.port?);
            (alive && !record.terminating && record.target() == target)
                .then(|| Some((record.member.clone()?, address)))
                .flatten()
        };
        let members: Members = adopted.iter().filter_map(upstream).collect();
        let reference = &deployment.spec.gateway;
        let stop_gateway = self.stop_gateways.child_token();
        let scaled = DeploymentState {
            members: MembersFile::own(reference.members_file.clone(), members),
            gateway: gateway::follow(&reference.admin_url, stop_gateway.clone()),
            stop_gateway,
            startup: Startup::load(&self.config.state_dir, &target.namespace, &target.name),
            removed: false,
            deployment,
        };
        self.targets.insert(target, scaled);
    }

    /// Continues with a replica of an earlier supervisor.
    pub(super) fn take_over(&mut self, record: ReplicaRecord) -> io::Result<()> {
        let target = record.target();
        if !self.targets.contains_key(&target) {
            // It is no longer wanted, but has to be drained and stopped.
            let last_known: Option<LocalDeployment> = self
                .config
                .store
                .get(Some(&target.namespace), &target.name)
                .map_err(|error| io::Error::other(error.to_string()))?;
            let Some(deployment) = last_known else {
                tracing::error!(%target, replica = record.name, "A replica is left of a LocalDeployment that is not known any more; define it again, so that the replica can be ended.");
                return Ok(());
            };
            self.add_target(target.clone(), Arc::new(deployment), std::slice::from_ref(&record));
            if let Some(scaled) = self.targets.get_mut(&target) {
                scaled.removed = true;
            }
        }
        let claim: Option<ResourceClaim> = self
            .config
            .store
            .get(Some(&record.namespace), &record.name)
            .map_err(|error| io::Error::other(error.to_string()))?;
        let holds_its_claim =
            claim.is_some_and(|claim| claim.metadata.uid.as_deref() == Some(&record.claim_uid));
        let is_wanted = self.targets.get(&target).is_some_and(|scaled| !scaled.removed);
        let is_ending = record.terminating || !holds_its_claim || !is_wanted;
        self.spawn(&target, record, None, is_ending);
        Ok(())
    }
}

fn with_namespace(deployment: &LocalDeployment, namespace: &str) -> LocalDeployment {
    let mut deployment = deployment.clone();
    deployment.metadata.namespace = Some(namespace.to_owned());
    deployment
}
