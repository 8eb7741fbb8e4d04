//! Simulated nodes, whose kubelet KWOK plays: their pods are said to run and nothing runs.

use anyhow::Result;
use serde_json::{Value, json};

use crate::cluster::Cluster;

/// Of simulated nodes; KWOK manages nodes with it and no others.
pub const ANNOTATION: &str = "kwok.x-k8s.io/node";
/// The same as a selector.
pub const ANNOTATION_SELECTOR: &str = "kwok.x-k8s.io/node=fake";
/// Label by which a pod can ask for a simulated node: `type: kwok`.
pub const LABEL: (&str, &str) = ("type", "kwok");
/// Taint key that keeps other pods away.
pub const TAINT: &str = ANNOTATION;

/// How simulated nodes and their pods behave.
pub const STAGES: &str = include_str!("../manifests/kwok-stages.yaml");

/// Makes `count` of them, `kwok-0` and on.
///
/// # Errors
/// When the API server refuses.
pub async fn create(cluster: &Cluster, count: usize) -> Result<()> {
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
            "annotations": { ANNOTATION: "fake" },
            "labels": { LABEL.0: LABEL.1, "kubernetes.io/hostname": name, "kubernetes.io/os": "linux" },
        },
        "spec": { "taints": [{ "key": TAINT, "value": "fake", "effect": "NoSchedule" }] },
        "status": { "allocatable": size, "capacity": size },
    })
}
