//! Finds which of a target's pods are of its newest revision, to detect a rollout.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use sluice_scaling_policy::Standing;

use super::workload::{Newest, TEMPLATE_HASH};
use super::{KubernetesPlatform, pods, rollout, standing};
use crate::platform::{PlatformError, ScaleTarget};

impl KubernetesPlatform {
    /// Returns what keeps the target's pods from being ready, and the rollout that replaces them.
    pub(super) async fn standing(&self, target: &ScaleTarget, asked: u32) -> Result<Standing, PlatformError> {
        let now_ms = pods::millis(jiff::Timestamp::now());
        let pods = self.all_pods()?;
        let (pods, workload) = match self.known().get(target) {
            Some(known) => (known.own(target, &pods), known.workload.clone()),
            None => return Ok(Standing::default()),
        };
        let obstacles = standing::obstacles(asked, &pods, &workload, now_ms);
        let newest = match &workload.newest {
            Newest::Label(label, value) => Some((*label, value.clone(), value.clone())),
            Newest::ReplicaSet(revision) => {
                let hash = self.newest_hash(target, revision, &pods).await?;
                hash.map(|hash| (TEMPLATE_HASH, hash, revision.clone()))
            }
            Newest::Unknown => None,
        };
        let rollout = newest.and_then(|(label, value, revision)| {
            let is_newest = |pod: &Pod| pods::label(pod, label) == Some(value.as_str());
            rollout::rollout(asked, &pods, &revision, workload.surrender, now_ms, is_newest)
        });
        Ok(Standing { obstacles, rollout, ..Standing::default() })
    }

    /// Returns the hash of the pods of a Deployment's newest ReplicaSet; `None` where all pods have the same hash, or the
    /// newest ReplicaSet has no pod yet.
    async fn newest_hash(
        &self,
        target: &ScaleTarget,
        revision: &str,
        pods: &[&Pod],
    ) -> Result<Option<String>, PlatformError> {
        let live = pods.iter().filter(|pod| pods::is_live(pod));
        let sets: BTreeMap<&str, &str> = live
            .filter_map(|pod| {
                let owners = pod.metadata.owner_references.as_ref()?;
                let owner = owners.iter().find(|owner| owner.kind == "ReplicaSet")?;
                Some((owner.name.as_str(), pods::label(pod, TEMPLATE_HASH)?))
            })
            .collect();
        if sets.len() < 2 {
            return Ok(None);
        }
        for (set, hash) in sets {
            let known = self.known().get(target).and_then(|known| known.revisions.get(set).cloned());
            let found = match known {
                Some(found) => found,
                None => {
                    let found = self.scales.revision(target, set).await?.unwrap_or_default();
                    if let Some(known) = self.known().get_mut(target) {
                        known.revisions.insert(set.to_owned(), found.clone());
                    }
                    found
                }
            };
            if found == revision {
                return Ok(Some(hash.to_owned()));
            }
        }
        Ok(None)
    }
}
