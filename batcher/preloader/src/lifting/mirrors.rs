//! What is watched: pods, trimmed to what decisions depend on, and the inventory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client};
use sluice_config::names::pod as names;
use sluice_inventory::Cluster;
use sluice_inventory_watch::InventoryWatch;
use sluice_inventory_watch::reflect::Reflected;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::lifter::ClusterView;
use crate::gates::placement_key;

/// Watches pods alone.
pub(super) struct PodMirror {
    pods: Reflected<Pod>,
    changed: watch::Receiver<u64>,
    /// Pods that decisions depend on, as of the last read.
    seen: Vec<Arc<Pod>>,
}

impl PodMirror {
    /// Starts to watch all pods, until `stop` is cancelled: pods that did not opt in claim devices too.
    pub(super) fn start(client: Client, stop: &CancellationToken) -> Self {
        let changes = Arc::new(watch::Sender::new(0));
        let changed = changes.subscribe();
        let pods = Reflected::start(Api::all(client), trim, &changes, stop);
        Self { pods, changed, seen: Vec::new() }
    }

    /// Returns the pods that are held by a gate or claim devices; `None` before pods were listed.
    fn of_concern(&self) -> Option<Vec<Arc<Pod>>> {
        let mut pods = self.pods.all()?;
        pods.retain(|pod| {
            pod.spec.as_ref().is_some_and(|spec| {
                spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty())
                    || spec.resource_claims.as_ref().is_some_and(|claims| !claims.is_empty())
            })
        });
        Some(pods)
    }
}

impl ClusterView for PodMirror {
    fn see(&mut self) -> Option<(Vec<Arc<Pod>>, Cluster)> {
        self.changed.mark_unchanged();
        self.seen = self.of_concern()?;
        Some((self.seen.clone(), Cluster::default()))
    }

    fn closed_nodes(&self, _: &Pod) -> Arc<BTreeSet<String>> {
        Arc::default()
    }

    async fn changed(&mut self) {
        // In a large cluster pods change all the time, but rarely in a way that decisions depend on.
        loop {
            next(&mut self.changed).await;
            if self.of_concern().is_none_or(|now| now != self.seen) {
                return;
            }
        }
    }
}

/// Watches pods and the inventory.
pub(super) struct Mirrors {
    pods: PodMirror,
    inventory: InventoryWatch,
    changed: watch::Receiver<u64>,
    /// Closed nodes by [`placement_key`], since the last read.
    closed: Mutex<BTreeMap<String, Arc<BTreeSet<String>>>>,
}

impl Mirrors {
    /// Starts to watch, until `stop` is cancelled.
    pub(super) fn start(client: Client, stop: &CancellationToken) -> Self {
        let inventory = InventoryWatch::start(client.clone(), stop.clone());
        let changed = inventory.changes();
        Self { pods: PodMirror::start(client, stop), inventory, changed, closed: Mutex::default() }
    }
}

impl ClusterView for Mirrors {
    fn see(&mut self) -> Option<(Vec<Arc<Pod>>, Cluster)> {
        self.changed.mark_unchanged();
        self.closed.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
        let cluster = self.inventory.cluster()?;
        let (pods, _) = self.pods.see()?;
        Some((pods, cluster))
    }

    fn closed_nodes(&self, pod: &Pod) -> Arc<BTreeSet<String>> {
        let none = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&none);
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let nodes = closed.entry(placement_key(spec)).or_insert_with(|| {
            Arc::new(
                self.inventory
                    .cluster_for(spec)
                    .map(|cluster| cluster.unschedulable_nodes)
                    .unwrap_or_default(),
            )
        });
        Arc::clone(nodes)
    }

    async fn changed(&mut self) {
        tokio::select! {
            () = next(&mut self.changed) => {}
            () = self.pods.changed() => {}
        }
    }
}

/// Resolves at the next change; never, once the watch has ended.
async fn next(changed: &mut watch::Receiver<u64>) {
    if changed.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Removes the fields that no decision depends on, to save memory in clusters with many pods.
fn trim(pod: &mut Pod) {
    let ObjectMeta {
        name, namespace, uid, creation_timestamp, deletion_timestamp, labels, annotations, ..
    } = std::mem::take(&mut pod.metadata);
    let one = |all: Option<BTreeMap<String, String>>, key: &str| {
        Some(all?.into_iter().filter(|(one, _)| one == key).collect())
    };
    pod.metadata = ObjectMeta {
        name,
        namespace,
        uid,
        creation_timestamp,
        deletion_timestamp,
        labels: one(labels, names::INJECT_LABEL),
        annotations: one(annotations, names::GATE_DEADLINE_ANNOTATION),
        ..ObjectMeta::default()
    };
    if let Some(spec) = pod.spec.take() {
        pod.spec = Some(PodSpec {
            scheduling_gates: spec.scheduling_gates,
            resource_claims: spec.resource_claims,
            priority: spec.priority,
            node_selector: spec.node_selector,
            affinity: spec.affinity,
            tolerations: spec.tolerations,
            ..PodSpec::default()
        });
    }
    if let Some(status) = pod.status.take() {
        pod.status = Some(PodStatus {
            phase: status.phase,
            resource_claim_statuses: status.resource_claim_statuses,
            ..PodStatus::default()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_decisions_depend_on_is_kept_and_nothing_else() {
        let kept = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "a", "namespace": "ns", "uid": "1", "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"sluice.dev/inject": "enabled"},
                "annotations": {"sluice.dev/gate-deadline-seconds": "20"},
            },
            "spec": {
                "containers": [], "priority": 7, "nodeSelector": {"gpu": "a100"},
                "schedulingGates": [{"name": "sluice.dev/gpu-preload"}],
                "resourceClaims": [{"name": "slice", "resourceClaimTemplateName": "slice"}],
                "tolerations": [{"operator": "Exists"}],
            },
            "status": {
                "phase": "Pending",
                "resourceClaimStatuses": [{"name": "slice", "resourceClaimName": "a-slice"}],
            },
        });
        let mut more = kept.clone();
        json_patch::merge(
            &mut more,
            &json!({
                "metadata": {
                    "labels": {"app": "bert"},
                    "annotations": {"other": "x"},
                    "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "2"}],
                },
                "spec": {"containers": [{"name": "model", "image": "x"}], "serviceAccountName": "default"},
                "status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
            }),
        );
        let mut pod: Pod = serde_json::from_value(more).unwrap();
        trim(&mut pod);
        assert_eq!(serde_json::to_value(pod).unwrap(), kept);
    }
}
