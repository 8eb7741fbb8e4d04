//! What `sluice-inventory` asks of a cluster, kept up to date by watches: ResourceSlices, ResourceClaims,
//! DeviceClasses and Nodes. Whoever counts free slices in a cluster (the autoscaler, the preloader) holds
//! one [`InventoryWatch`] and asks it as often as it likes: no question goes to the API server.
//!
//! ```text
//!  API server ──watch──▶ reflect (a task per kind) ──▶ stores ──▶ cluster() ──▶ sluice-inventory
//!                                  └──▶ changes()        └─ place: nodes that a pod cannot go to
//! ```
//!
//! While the API server is away the last state stays in force: a slice that is taken meanwhile is the
//! scheduler's to refuse, and watches resume where they ended.
//!
//! Needs `list` and `watch` on `resourceslices`, `resourceclaims`, `deviceclasses` (resource.k8s.io) and
//! `nodes`.
#![forbid(unsafe_code)]

pub mod place;
pub mod reflect;

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PodSpec};
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim, ResourceSlice};
use kube::api::ListParams;
use kube::{Api, Client};
use sluice_inventory::Cluster;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use reflect::Reflected;

/// A cluster's inventory. Clones share the same watches.
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
    /// Starts a reflector for each kind on the current runtime; they end when `stop` is cancelled.
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

    /// Resolves when every kind was listed once; never when the watches were stopped before.
    pub async fn ready(&self) {
        let Kinds { slices, claims, classes, nodes } = &*self.kinds;
        tokio::join!(slices.listed(), claims.listed(), classes.listed(), nodes.listed());
    }

    /// The inventory now, for a pod of which nothing is known; `None` before [`ready`](Self::ready).
    ///
    /// Nodes that are cordoned, not ready, gone, or tainted by Kubernetes itself (`node.kubernetes.io/…`)
    /// take nobody. Other taints keep some pods off and others not: [`cluster_for`](Self::cluster_for)
    /// knows which.
    pub fn cluster(&self) -> Option<Cluster> {
        self.cluster_without(|node| !place::is_open(node))
    }

    /// The inventory now, for one pod: nodes that its tolerations, its node selector or its required node
    /// affinity exclude take nothing either. `None` before [`ready`](Self::ready).
    pub fn cluster_for(&self, pod: &PodSpec) -> Option<Cluster> {
        self.cluster_without(|node| !place::admits(node, pod))
    }

    /// Changes whenever any of the objects changed. Before [`ready`](Self::ready) it may change too.
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

/// The inventory of this moment, as [`InventoryWatch::cluster`] would have it, for whoever asks once.
///
/// # Errors
/// What the API server says.
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

/// Names of the nodes that take nothing.
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
    // Slices outlive their node for a while, until somebody removes them.
    let of_slices = slices.iter().filter_map(|slice| slice.spec.node_name.as_ref());
    closed.extend(of_slices.filter(|node| !known.contains(*node)).cloned());
    closed
}

/// Of a node only what placement depends on is kept: its list of images alone can be larger than all else.
fn trim(node: &mut Node) {
    node.metadata.annotations = None;
    if let Some(status) = &mut node.status {
        let conditions = status.conditions.take();
        *status = k8s_openapi::api::core::v1::NodeStatus { conditions, ..Default::default() };
    }
}

#[cfg(test)]
mod tests;
