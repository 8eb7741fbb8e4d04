//! Installs Sluice by the unchanged shipped manifests, as a user of any cluster does.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sluice_config::names::SYSTEM_NAMESPACE;

use crate::cluster::Cluster;
use crate::workdir::Workdir;

/// Time limit for a workload to become ready.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// Path of the shipped manifests in the repository.
const DEFAULT: &str = "config/default";

/// Returns the folder of the manifests to install: the named one, else that of the repository in which the command runs.
///
/// # Errors
/// When there are none.
pub(crate) fn manifests(named: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(named) = named {
        return std::path::absolute(&named).with_context(|| named.display().to_string());
    }
    let here = std::env::current_dir().context("the current folder")?;
    let found = here.ancestors().map(|folder| folder.join(DEFAULT)).find(|folder| folder.is_dir());
    found.with_context(|| {
        format!(
            "no {DEFAULT} in {} or above it: run inside the repository, or name it with --manifests",
            here.display()
        )
    })
}

/// Applies the manifests and waits until every workload of theirs is ready.
///
/// # Errors
/// When the API server rejects them, or a workload does not become ready; then with its pods and events.
pub(crate) async fn install(cluster: &Cluster, manifests: &Path) -> Result<()> {
    let manifests = manifests.to_str().context("the path of the manifests is not text")?;
    cluster.kubectl(&["apply", "-k", manifests]).await?;
    wait_ready(cluster).await
}

/// Waits until every workload of Sluice is ready.
///
/// # Errors
/// When one is not in time; then with its pods and events.
pub(crate) async fn wait_ready(cluster: &Cluster) -> Result<()> {
    let kinds = "daemonsets,deployments";
    let workloads = cluster.kubectl(&["-n", SYSTEM_NAMESPACE, "get", kinds, "-o", "name"]).await?;
    for workload in workloads.lines() {
        let timeout = format!("--timeout={}s", READY_WITHIN.as_secs());
        let status =
            cluster.kubectl(&["-n", SYSTEM_NAMESPACE, "rollout", "status", workload, &timeout]).await;
        if let Err(error) = status {
            let pods = cluster.kubectl(&["-n", SYSTEM_NAMESPACE, "get", "pods", "-o", "wide"]).await?;
            let events = cluster
                .kubectl(&["-n", SYSTEM_NAMESPACE, "get", "events", "--sort-by=.lastTimestamp"])
                .await?;
            bail!("{workload} is not ready: {error:#}\n{pods}\n{events}");
        }
        println!("ready: {workload}");
    }
    Ok(())
}

/// Restarts every workload of Sluice, so that it runs the images that were imported last.
///
/// # Errors
/// When one does not become ready again.
pub(crate) async fn restart(workdir: &Workdir) -> Result<()> {
    let cluster = Cluster::connect(workdir.clone()).await?;
    let kinds = "daemonsets,deployments";
    cluster.kubectl(&["-n", SYSTEM_NAMESPACE, "rollout", "restart", kinds]).await?;
    wait_ready(&cluster).await
}
