//! Objects of a small cluster: one simulated A100 on which three slices of 2g.10gb fit.

use std::time::Duration;

use serde_json::{Value, json};
use sluice_config::names;
use sluice_inventory::{SliceLayout, device_classes, resource_slices};

use sluice_testkit::api_server::ApiServer;

pub(crate) const DEPLOYMENTS: &str = "apis/apps/v1/deployments";
pub(crate) const REPLICA_SETS: &str = "apis/apps/v1/replicasets";
pub(crate) const HPAS: &str = "apis/autoscaling/v2/horizontalpodautoscalers";
pub(crate) const PODS: &str = "api/v1/pods";
pub(crate) const CLAIMS: &str = "apis/resource.k8s.io/v1/resourceclaims";
pub(crate) const AUTOSCALERS: &str = "apis/sluice.dev/v1alpha1/inferenceautoscalers";
pub(crate) const LEASES: &str = "apis/coordination.k8s.io/v1/leases";
pub(crate) const CLASS: &str = "mig-2g-10gb.gpu.sluice.dev";

/// Returns a cluster with the node, its slices and classes, and the template of a claim.
pub(crate) fn cluster() -> ApiServer {
    let api = crate::api::server();
    let gpus = [sluice_testkit::gpus::a100(0, &["2g.10gb"])];
    for slice in resource_slices("node", names::DRIVER, &gpus, SliceLayout::Combined, 1).unwrap() {
        api.put("apis/resource.k8s.io/v1/resourceslices", serde_json::to_value(slice).unwrap());
    }
    for class in device_classes(names::DRIVER, &gpus) {
        api.put("apis/resource.k8s.io/v1/deviceclasses", serde_json::to_value(class).unwrap());
    }
    api.put("api/v1/nodes", node(json!({})));
    api.put(
        "apis/resource.k8s.io/v1/resourceclaimtemplates",
        json!({"metadata": {"namespace": "ns", "name": "slice"}, "spec": {"spec": claim_spec()}}),
    );
    api
}

pub(crate) fn node(spec: Value) -> Value {
    json!({
        "metadata": {"name": "node"}, "spec": spec,
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    })
}

fn claim_spec() -> Value {
    json!({"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": CLASS}}]}})
}

pub(crate) fn deployment(name: &str, replicas: u32) -> Value {
    json!({
        "metadata": {"namespace": "ns", "name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"spec": {
                "containers": [{"name": "model"}],
                "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "slice"}],
            }},
        },
    })
}

pub(crate) fn autoscaler(name: &str, target: &str) -> Value {
    json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "InferenceAutoscaler",
        "metadata": {"namespace": "ns", "name": name, "generation": 1},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target},
            "model": "bert", "objective": {"percentile": 99, "latencyMs": 400},
            "minReplicas": 1, "maxReplicas": 8,
        },
    })
}

/// Returns an owner reference to a controller, with the UID that the server gives it.
pub(crate) fn controlled_by(api_version: &str, kind: &str, collection: &str, name: &str) -> Value {
    json!([{
        "apiVersion": api_version, "kind": kind, "name": name, "controller": true,
        "uid": format!("{name}-{}", collection.len()),
    }])
}

/// Returns a ReplicaSet of a Deployment.
pub(crate) fn replica_set(of: &str, name: &str) -> Value {
    json!({
        "metadata": {
            "namespace": "ns", "name": name,
            "ownerReferences": controlled_by("apps/v1", "Deployment", DEPLOYMENTS, of),
        },
        "spec": {"replicas": 1, "selector": {"matchLabels": {"set": name}}},
    })
}

/// Returns the pod with these owner references; without any where they are null.
pub(crate) fn owned(mut pod: Value, owners: Value) -> Value {
    pod["metadata"]["ownerReferences"] = owners;
    pod
}

/// Returns a pod that a Deployment controls, without a ReplicaSet between; its sidecar's admin port is `port` of the
/// loopback interface.
pub(crate) fn pod(of: &str, name: &str, port: u16, ready: bool) -> Value {
    json!({
        "metadata": {
            "namespace": "ns", "name": name, "uid": name, "labels": {"app": of},
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": controlled_by("apps/v1", "Deployment", DEPLOYMENTS, of),
        },
        "spec": {
            "containers": [{"name": "model"}],
            "initContainers": [{"name": "sluice-batcher", "restartPolicy": "Always", "ports": [
                {"name": "sluice-admin", "containerPort": port},
            ]}],
            "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "slice"}],
        },
        "status": {"phase": "Running", "podIP": "127.0.0.1", "conditions": [
            {"type": "Ready", "status": if ready { "True" } else { "False" }},
        ]},
    })
}

/// Returns a pod of the gateway in front of `bert`; its admin port is `port` of the loopback interface.
pub(crate) fn gateway_pod(name: &str, port: u16, ready: bool) -> Value {
    let mut gateway = pod("bert-gateway", name, port, ready);
    gateway["spec"] = json!({"containers": [{"name": "gateway", "ports": [
        {"name": "http", "containerPort": 8080}, {"name": "sluice-admin", "containerPort": port},
    ]}]});
    gateway
}

/// Returns the claim of a pod, with the allocated `device`.
pub(crate) fn claim(of_pod: &str, device: Option<&str>) -> Value {
    let mut claim = json!({
        "metadata": {"namespace": "ns", "name": format!("{of_pod}-gpu"), "ownerReferences": [
            {"apiVersion": "v1", "kind": "Pod", "name": of_pod, "uid": of_pod},
        ]},
        "spec": claim_spec(),
    });
    if let Some(device) = device {
        claim["status"] = json!({"allocation": {"devices": {"results": [
            {"request": "gpu", "driver": names::DRIVER, "pool": "node/gpu", "device": device},
        ]}}});
    }
    claim
}

/// Waits until `is_so` holds; fails the test if that takes long.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1500 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never happened: {what}");
}
