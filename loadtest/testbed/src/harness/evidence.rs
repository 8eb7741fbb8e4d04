//! Evidence of a failed scenario: objects, events, logs of pods and of the cluster's processes.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;

use crate::cluster::Cluster;

/// Folder of evidence, below that in which the command runs. Each cluster has a folder of its own in it.
const DIR: &str = "target/e2e";
/// Objects to keep: file name and arguments of kubectl.
const OBJECTS: [(&str, &[&str]); 6] = [
    ("pods.txt", &["get", "pods", "-A", "-o", "wide"]),
    ("pods.yaml", &["get", "pods", "-A", "-o", "yaml"]),
    ("events.txt", &["get", "events", "-A", "--sort-by=.metadata.creationTimestamp"]),
    ("claims.yaml", &["get", "resourceclaims", "-A", "-o", "yaml"]),
    ("slices.yaml", &["get", "resourceslices", "-o", "yaml"]),
    ("workloads.yaml", &["get", "deployments,daemonsets,services,endpointslices", "-A", "-o", "yaml"]),
];
/// Objects of a kind that a cluster may lack.
const OPTIONAL: (&str, &[&str]) = ("autoscalers.yaml", &["get", "inferenceautoscalers", "-A", "-o", "yaml"]);
/// Maximum number of lines of each log.
const TAIL: &str = "--tail=4000";

/// Collects evidence in a folder named after the scenario, replacing that of an earlier run. Returns the failure with
/// the path of the folder.
pub(crate) async fn keep(cluster: &Cluster, name: &str, failure: anyhow::Error) -> anyhow::Error {
    let cluster_name = cluster.workdir().name().to_string();
    let folder =
        Path::new(DIR).join(cluster_name).join(name.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
    match collect(cluster, &folder).await {
        Ok(()) => failure.context(format!("evidence is in {}", folder.display())),
        Err(other) => failure.context(format!("and no evidence could be kept: {other:#}")),
    }
}

async fn collect(cluster: &Cluster, folder: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (file, arguments) in OBJECTS.into_iter().chain([OPTIONAL]) {
        // An object that cannot be read leaves its error in the file.
        let text = cluster.kubectl(arguments).await.unwrap_or_else(|error| format!("{error:#}\n"));
        write(&folder.join(file), &text)?;
    }
    pod_logs(cluster, &folder.join("logs")).await?;
    let node_logs = folder.join("node");
    fs::create_dir_all(&node_logs)?;
    for entry in fs::read_dir(cluster.workdir().path("log"))? {
        let entry = entry?;
        fs::copy(entry.path(), node_logs.join(entry.file_name()))?;
    }
    Ok(())
}

async fn pod_logs(cluster: &Cluster, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let pods = Api::<Pod>::all(cluster.client()).list(&ListParams::default()).await?;
    for pod in pods {
        let (Some(namespace), Some(name)) = (pod.metadata.namespace, pod.metadata.name) else { continue };
        let restarted = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
        let restarted = restarted.iter().any(|container| container.restart_count > 0);
        let logs = ["-n", &namespace, "logs", &name, "--all-containers", "--prefix", "--timestamps", TAIL];
        let text = cluster.kubectl(&logs).await.unwrap_or_else(|error| format!("{error:#}\n"));
        write(&folder.join(format!("{namespace}_{name}.log")), &text)?;
        if restarted {
            let previous: Vec<&str> = logs.into_iter().chain(["--previous"]).collect();
            let text = cluster.kubectl(&previous).await.unwrap_or_else(|error| format!("{error:#}\n"));
            write(&folder.join(format!("{namespace}_{name}.previous.log")), &text)?;
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
