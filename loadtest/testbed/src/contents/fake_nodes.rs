//! Simulated nodes, whose kubelet is played by KWOK: their pods are reported as running, but nothing runs.

use anyhow::Result;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::node::components::SIMULATED_NODE;

/// Label by which a pod can ask for a simulated node: `type: kwok`.
pub(crate) const LABEL: (&str, &str) = ("type", "kwok");
/// Taint key that keeps other pods away.
pub(crate) const TAINT: &str = SIMULATED_NODE;

/// Creates `count` simulated nodes, named `kwok-0`, `kwok-1` and so on.
///
/// # Errors
/// When the API server rejects them.
pub(crate) async fn create(cluster: &Cluster, count: usize) -> Result<()> {
    let nodes: Vec<Value> = (0..count).map(|index| node(&format!("kwok-{index}"))).collect();
    if nodes.is_empty() {
        return Ok(());
    }
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": nodes });
    cluster.apply(&list.to_string()).await
}

fn node(name: &str) -> Value {
    let size = json!({ "cpu": "64", "memory": "512Gi", "pods": "200" });
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": { SIMULATED_NODE: "fake" },
            "labels": { LABEL.0: LABEL.1, "kubernetes.io/hostname": name, "kubernetes.io/os": "linux" },
        },
        "spec": { "taints": [{ "key": TAINT, "value": "fake", "effect": "NoSchedule" }] },
        "status": { "allocatable": size, "capacity": size },
    })
}
