//! Writes the pods of the cluster to a file for Prometheus, with the labels of Prometheus' own discovery for Kubernetes:
//! the shipped settings relabel by them, but Debian's build lacks that discovery.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::Api;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use serde::Serialize;

use crate::cluster::Cluster;
use crate::contents::prometheus::targets;
use crate::workdir::Workdir;

/// Prefix of all labels.
const META: &str = "__meta_kubernetes";
/// Changes within this time are written together.
const SETTLE: Duration = Duration::from_millis(200);

/// Group of targets, in the form that Prometheus reads.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Group {
    targets: Vec<String>,
    labels: BTreeMap<String, String>,
}

/// Keeps the file up to date until the process is killed.
///
/// # Errors
/// When the file cannot be written. An unreachable API server is waited for.
pub(crate) async fn run(workdir: &Workdir) -> Result<()> {
    let cluster = Cluster::connect(workdir.clone()).await?;
    let (store, writer) = reflector::store();
    let pods = Api::<Pod>::all(cluster.client());
    let changes =
        watcher(pods, watcher::Config::default()).default_backoff().reflect(writer).touched_objects();
    let mut changes = std::pin::pin!(changes);
    let file = targets(workdir);
    while let Some(change) = changes.next().await {
        if let Err(error) = change {
            eprintln!("pods: {error}");
        }
        // Further changes often follow at once.
        let settled = tokio::time::Instant::now() + SETTLE;
        while tokio::time::timeout_at(settled, changes.next()).await.is_ok_and(|change| change.is_some()) {}
        let groups: Vec<Group> = store.state().iter().flat_map(|pod| groups(pod)).collect();
        write(&file, &groups)?;
    }
    Ok(())
}

/// Writes the file atomically, so that Prometheus never reads an incomplete one.
fn write(file: &Path, groups: &[Group]) -> Result<()> {
    let temporary = file.with_extension("new");
    std::fs::write(&temporary, serde_json::to_vec_pretty(groups)?)
        .and_then(|()| std::fs::rename(&temporary, file))
        .with_context(|| format!("cannot write {}", file.display()))
}

/// Returns the targets of a pod: one for each declared port, and one for a container that declares none.
fn groups(pod: &Pod) -> Vec<Group> {
    let status = pod.status.clone().unwrap_or_default();
    let (Some(spec), Some(address)) = (&pod.spec, &status.pod_ip) else { return Vec::new() };
    let init = spec.init_containers.iter().flatten().map(|container| (container, true));
    let containers = init.chain(spec.containers.iter().map(|container| (container, false)));
    containers.flat_map(|(container, is_init)| of_container(pod, address, container, is_init)).collect()
}

fn of_container(pod: &Pod, address: &str, container: &Container, is_init: bool) -> Vec<Group> {
    let mut labels = pod_labels(pod, address);
    let mut add =
        |name: &str, value: &str| labels.insert(format!("{META}_pod_container_{name}"), value.to_owned());
    add("name", &container.name);
    add("image", container.image.as_deref().unwrap_or_default());
    add("init", if is_init { "true" } else { "false" });
    let ports = container.ports.as_deref().unwrap_or_default();
    if ports.is_empty() {
        return vec![Group { targets: vec![address.to_owned()], labels }];
    }
    let group = |port: &k8s_openapi::api::core::v1::ContainerPort| {
        let mut labels = labels.clone();
        let mut add =
            |name: &str, value: String| labels.insert(format!("{META}_pod_container_port_{name}"), value);
        add("name", port.name.clone().unwrap_or_default());
        add("number", port.container_port.to_string());
        add("protocol", port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()));
        Group { targets: vec![format!("{address}:{}", port.container_port)], labels }
    };
    ports.iter().map(group).collect()
}

fn pod_labels(pod: &Pod, address: &str) -> BTreeMap<String, String> {
    let (metadata, status) = (&pod.metadata, pod.status.clone().unwrap_or_default());
    let ready = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready");
    let owner = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let mut labels = BTreeMap::from([
        (format!("{META}_namespace"), text(&metadata.namespace)),
        (format!("{META}_pod_name"), text(&metadata.name)),
        (format!("{META}_pod_uid"), text(&metadata.uid)),
        (format!("{META}_pod_ip"), address.to_owned()),
        (format!("{META}_pod_host_ip"), text(&status.host_ip)),
        (format!("{META}_pod_phase"), text(&status.phase)),
        (
            format!("{META}_pod_ready"),
            ready.map_or("unknown".to_owned(), |ready| ready.status.to_lowercase()),
        ),
        (
            format!("{META}_pod_node_name"),
            pod.spec.as_ref().map_or(String::new(), |spec| text(&spec.node_name)),
        ),
    ]);
    if let Some(owner) = owner {
        labels.insert(format!("{META}_pod_controller_kind"), owner.kind.clone());
        labels.insert(format!("{META}_pod_controller_name"), owner.name.clone());
    }
    let kinds = [("label", &metadata.labels), ("annotation", &metadata.annotations)];
    for (kind, entries) in kinds {
        for (name, value) in entries.iter().flatten() {
            let name: String =
                name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
            labels.insert(format!("{META}_pod_{kind}_{name}"), value.clone());
            labels.insert(format!("{META}_pod_{kind}present_{name}"), "true".to_owned());
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": "bert-1", "namespace": "default",
                "labels": { "sluice.dev/inject": "enabled" },
                "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "bert", "uid": "u", "controller": true }],
            },
            "spec": {
                "initContainers": [{ "name": "sluice-batcher", "ports": [
                    { "name": "http", "containerPort": 8080 }, { "name": "sluice-admin", "containerPort": 8081 },
                ]}],
                "containers": [{ "name": "model" }],
            },
            "status": { "podIP": "198.18.16.9", "conditions": [{ "type": "Ready", "status": "True" }] },
        }))
        .unwrap()
    }

    #[test]
    fn a_pod_has_one_target_for_each_port_and_for_each_container_without() {
        let groups = groups(&pod());
        let targets: Vec<&str> = groups.iter().map(|group| group.targets[0].as_str()).collect();
        assert_eq!(targets, ["198.18.16.9:8080", "198.18.16.9:8081", "198.18.16.9"]);
        let labels = &groups[1].labels;
        for (name, value) in [
            ("__meta_kubernetes_namespace", "default"),
            ("__meta_kubernetes_pod_label_sluice_dev_inject", "enabled"),
            ("__meta_kubernetes_pod_labelpresent_sluice_dev_inject", "true"),
            ("__meta_kubernetes_pod_container_init", "true"),
            ("__meta_kubernetes_pod_container_port_name", "sluice-admin"),
            ("__meta_kubernetes_pod_container_port_number", "8081"),
            ("__meta_kubernetes_pod_controller_kind", "ReplicaSet"),
            ("__meta_kubernetes_pod_ready", "true"),
        ] {
            assert_eq!(labels.get(name).map(String::as_str), Some(value), "{name}");
        }
    }

    #[test]
    fn a_pod_without_an_address_has_no_target() {
        assert!(groups(&Pod { status: None, ..pod() }).is_empty());
    }
}
