//! The driver over the life of a node: a reboot, and a replacement of NVIDIA's driver.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sluice_config::names::SYSTEM_NAMESPACE;

use super::shared_slices::{pod_with_slice, two_pods_with_one_slice};
use super::slices::{DRIVER, wait_driver_ready, wait_instances, wait_published, wait_running};
use super::{Namespace, pods};
use crate::cluster::{Cluster, Look};
use crate::node::components::NODE_NAME;
use crate::node::reboot;

/// Time within which each step must end. After a failed prepare the kubelet waits for over a minute.
const WITHIN: Duration = Duration::from_secs(180);
/// Sockets of the driver, by which the kubelet finds it and calls it.
const SOCKETS: [&str; 2] = [
    "/var/lib/kubelet/plugins_registry/gpu.sluice.dev-reg.sock",
    "/var/lib/kubelet/plugins/gpu.sluice.dev/dra.sock",
];
/// The node's label by which NVIDIA's driver manager stops a DRA driver.
const MANAGED: &str = "nvidia.com/gpu.deploy.dra-driver";

/// The node reboots under two pods of one claim and a pod of another: all run again on slices that are made anew, and
/// none is left over.
pub(super) async fn reboot(cluster: Cluster) -> Result<()> {
    let namespace = Namespace::create(&cluster, "reboot").await?;
    wait_instances(&cluster, 0).await?;
    namespace.apply(&two_pods_with_one_slice()).await?;
    for pod in ["one", "two"] {
        wait_running(&namespace, pod).await?;
    }
    wait_instances(&cluster, 1).await?;
    let before = model(&cluster, &namespace).await?;
    let workdir = cluster.workdir().clone();
    tokio::task::spawn_blocking(move || reboot::reboot(&workdir)).await??;
    ensure!(!before.is_alive(), "a process of a pod outlived the reboot");
    cluster.wait_node(NODE_NAME, WITHIN).await?;
    cluster
        .wait_for("the pods' containers run again", WITHIN, || async {
            Ok(match model(&cluster, &namespace).await {
                Ok(now) if now != before => Look::Done(()),
                Ok(_) => Look::NotYet("the process of before".to_owned()),
                Err(error) => Look::NotYet(format!("{error:#}")),
            })
        })
        .await?;
    for pod in ["one", "two"] {
        wait_running(&namespace, pod).await?;
    }
    wait_instances(&cluster, 1).await?;
    wait_driver_ready(&cluster).await?;
    wait_published(&cluster).await?;
    for socket in SOCKETS {
        UnixStream::connect(socket).with_context(|| format!("{socket} after the reboot"))?;
    }
    let files = std::fs::read_dir("/var/run/cdi")?.count();
    ensure!(files == 1, "{files} CDI files are there for one claim");
    namespace.kubectl(&["delete", "pod", "one", "two"]).await?;
    wait_instances(&cluster, 0).await?;
    namespace.remove().await
}

async fn model(cluster: &Cluster, namespace: &Namespace) -> Result<crate::processes::Identity> {
    let pod = pods::only(cluster, namespace.name, "app=one").await?;
    pods::process(&pod, "sluice-loadtest", "model")
}

/// NVIDIA's driver manager pauses the driver's label: the driver is gone, so that nothing holds NVML, and the pod with
/// a slice runs on; when the label is back, so is the driver, and it takes the slice back.
pub(super) async fn driver_manager(cluster: Cluster) -> Result<()> {
    let namespace = Namespace::create(&cluster, "driver-manager").await?;
    wait_instances(&cluster, 0).await?;
    namespace.apply(&pod_with_slice()).await?;
    wait_running(&namespace, "one").await?;
    let label = async |value: &str| {
        let label = format!("{MANAGED}={value}");
        cluster.kubectl(&["label", "--overwrite", "node", NODE_NAME, &label]).await
    };
    label("true").await?;
    let driver = pods::only(&cluster, SYSTEM_NAMESPACE, DRIVER).await?;
    let process = pods::process(&driver, "sluice-driver", "")?;
    label("paused-for-driver-upgrade").await?;
    let gone = cluster
        .wait_for("the driver is gone", WITHIN, || async {
            let left = pods::list(&cluster, SYSTEM_NAMESPACE, DRIVER).await?.len();
            Ok(match process.is_alive() || left > 0 {
                true => Look::NotYet(format!("{left} pods")),
                false => Look::Done(()),
            })
        })
        .await;
    label("true").await?;
    gone?;
    wait_driver_ready(&cluster).await?;
    wait_published(&cluster).await?;
    wait_running(&namespace, "one").await?;
    wait_instances(&cluster, 1).await?;
    namespace.kubectl(&["delete", "pod", "one"]).await?;
    wait_instances(&cluster, 0).await?;
    cluster.kubectl(&["label", "node", NODE_NAME, &format!("{MANAGED}-")]).await?;
    namespace.remove().await
}
