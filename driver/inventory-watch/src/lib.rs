//! Inventory of a cluster, kept up to date by watches of ResourceSlices, ResourceClaims, DeviceClasses and Nodes. A
//! program that counts free slices in a cluster (the autoscaler, the preloader) holds one [`InventoryWatch`] and
//! reads it as often as it likes, because reading sends no request to the API server.
//!
//! ```text
//!  API server ──watch──▶ reflect (a task per kind) ──▶ stores ──▶ cluster() ──▶ sluice-inventory
//!                                  └──▶ changes()        └─ place: nodes that a pod cannot go to
//! ```
//!
//! While the API server is unavailable, the last known state is used. The scheduler refuses a slice that was taken
//! meanwhile, and the watches continue where they ended.
//!
//! The account needs `list` and `watch` on `resourceslices`, `resourceclaims`, `deviceclasses` (resource.k8s.io) and
//! `nodes`.
#![forbid(unsafe_code)]

mod place;
pub mod reflect;

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PodSpec};
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim, ResourceSlice};
use kube::api::ListParams;
use kube::{Api, Client};
use sluice_inventory::{Cluster, nodes_named};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use reflect::Reflected;

/// Inventory of a cluster. Clones share the same watches.
#[derive(Clone)]
pub struct InventoryWatch {
    kinds: Arc<Kinds>,
    changes: watch::Receiver<u64>,
}

struct Kinds {
    slices: Reflected<ResourceSlice>,
    claims: Reflected<ResourceClaim>,
    classes: Reflected<DeviceClass>,
    nodes: Reflected<Node>,
}

impl InventoryWatch {
    /// Starts a watch for each kind on the current runtime. They end when `stop` is cancelled.
    pub fn start(client: Client, stop: CancellationToken) -> Self {
        let (changed, changes) = watch::channel(0);
        let changed = Arc::new(changed);
        let kinds = Kinds {
            slices: Reflected::start(Api::all(client.clone()), |_| (), &changed, &stop),
            claims: Reflected::start(Api::all(client.clone()), |_| (), &changed, &stop),
            classes: Reflected::start(Api::all(client.clone()), |_| (), &changed, &stop),
            nodes: Reflected::start(Api::all(client), trim, &changed, &stop),
        };
        Self { kinds: Arc::new(kinds), changes }
    }

    /// Waits until every kind was listed once; forever if the watches were stopped before.
    pub async fn ready(&self) {
        let Kinds { slices, claims, classes, nodes } = &*self.kinds;
        tokio::join!(slices.listed(), claims.listed(), classes.listed(), nodes.listed());
    }

    /// Returns the present inventory for an unknown pod; `None` before [`ready`](Self::ready).
    ///
    /// Nodes that are cordoned, not ready, gone, or tainted by Kubernetes itself (`node.kubernetes.io/…`) get no
    /// pods. Other taints concern some pods and not others: see [`cluster_for`](Self::cluster_for).
    pub fn cluster(&self) -> Option<Cluster> {
        self.cluster_without(|node| !place::is_open(node))
    }

    /// Returns the present inventory for one pod: nodes that its tolerations, node selector or required node affinity
    /// exclude get no pods either. `None` before [`ready`](Self::ready).
    pub fn cluster_for(&self, pod: &PodSpec) -> Option<Cluster> {
        self.cluster_without(|node| !place::admits(node, pod))
    }

    /// Subscribes to a counter that changes whenever any of the objects does. It may also change before
    /// [`ready`](Self::ready).
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    fn cluster_without(&self, excluded: impl Fn(&Node) -> bool) -> Option<Cluster> {
        let Kinds { slices, claims, classes, nodes } = &*self.kinds;
        let slices = copies(&slices.all()?);
        let unschedulable_nodes = closed(&slices, nodes.all()?.iter().map(AsRef::as_ref), excluded);
        let (claims, device_classes) = (copies(&claims.all()?), copies(&classes.all()?));
        Some(Cluster { slices, claims, device_classes, unschedulable_nodes })
    }
}

/// Reads the inventory once from the API server, with the content of [`InventoryWatch::cluster`].
///
/// # Errors
/// Returns the error of the API server.
pub async fn read(client: Client) -> Result<Cluster, kube::Error> {
    let all = ListParams::default();
    let slices = Api::<ResourceSlice>::all(client.clone()).list(&all).await?.items;
    let claims = Api::<ResourceClaim>::all(client.clone()).list(&all).await?.items;
    let device_classes = Api::<DeviceClass>::all(client.clone()).list(&all).await?.items;
    let nodes = Api::<Node>::all(client).list(&all).await?.items;
    let unschedulable_nodes = closed(&slices, nodes.iter(), |node| !place::is_open(node));
    Ok(Cluster { slices, claims, device_classes, unschedulable_nodes })
}

fn copies<K: Clone>(objects: &[Arc<K>]) -> Vec<K> {
    objects.iter().map(|object| K::clone(object)).collect()
}

/// Returns the names of the nodes that get no pods.
fn closed<'a>(
    slices: &[ResourceSlice],
    nodes: impl Iterator<Item = &'a Node>,
    excluded: impl Fn(&Node) -> bool,
) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    let mut closed = BTreeSet::new();
    for node in nodes {
        let name = node.metadata.name.clone().unwrap_or_default();
        if excluded(node) {
            closed.insert(name.clone());
        }
        known.insert(name);
    }
    // The slices of a node exist for a while after it is gone, and slices may name nodes that never were.
    closed.extend(nodes_named(slices).into_iter().filter(|node| !known.contains(node)));
    closed
}

/// Drops everything of a node that placement does not depend on. Its list of images alone can be larger than all
/// else.
fn trim(node: &mut Node) {
    node.metadata.annotations = None;
    if let Some(status) = &mut node.status {
        let conditions = status.conditions.take();
        *status = k8s_openapi::api::core::v1::NodeStatus { conditions, ..Default::default() };
    }
}

#[cfg(test)]
mod tests;
