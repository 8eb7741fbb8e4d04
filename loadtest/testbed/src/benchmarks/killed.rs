//! Time until a pod runs when the driver or the kubelet is killed while its slice is being created.

use std::time::Duration;

use anyhow::{Context, Result};
use nvidia_ml::{Fault, When};
use rustix::process::Signal;
use sluice_config::names::SYSTEM_NAMESPACE;
use tokio::time::Instant;

use super::Spread;
use crate::cluster::Cluster;
use crate::node::simulated_gpus;
use crate::scenarios::{Namespace, pods, shared_slices, slices};

/// Process that is killed.
#[derive(Debug, Clone, Copy)]
struct Kill {
    driver: bool,
    kubelet: bool,
    /// Whether the pod's annotations are changed as soon as the driver is ready again.
    wakes: bool,
}

/// From what until when, and what is done for it.
const KILLS: [(&str, Kill); 4] = [
    ("the driver's kill", Kill { driver: true, kubelet: false, wakes: false }),
    (
        "the driver's kill, the pod annotated when the driver is ready",
        Kill { driver: true, kubelet: false, wakes: true },
    ),
    ("the kubelet's kill", Kill { driver: false, kubelet: true, wakes: false }),
    ("the kill of both", Kill { driver: true, kubelet: true, wakes: false }),
];

/// Measures the time from the kill, when the MIG instance exists but has not been reported, to the ready pod;
/// in the last row it is from the moment in which one prepare goes on that two pods wait for, until both are ready.
pub(super) async fn measure(cluster: &Cluster, rounds: usize) -> Result<Vec<(&'static str, Spread)>> {
    let namespace = Namespace::create(cluster, "figures-killed").await?;
    let mut rows = Vec::new();
    for (name, kill) in KILLS {
        let mut measured = Vec::new();
        for _ in 0..rounds {
            measured.push(killed(cluster, &namespace, kill).await.context(name)?);
        }
        rows.push((name, Spread::of(&measured).context("no round was measured")?));
    }
    let mut measured = Vec::new();
    for _ in 0..rounds {
        measured.push(shared(cluster, &namespace).await.context("two pods")?);
    }
    rows.push(("the going on of a prepare for two pods", Spread::of(&measured).context("no round")?));
    namespace.remove().await?;
    Ok(rows)
}

/// Applies objects, and waits until the driver stands in the midst of the prepare.
async fn stopped_inside(cluster: &Cluster, namespace: &Namespace, objects: &str) -> Result<()> {
    let gpus = simulated_gpus::open(cluster.workdir())?;
    gpus.add_fault(slices::GATE, &Fault::block("nvmlDeviceCreateGpuInstanceWithPlacement", When::After))?;
    namespace.apply(objects).await?;
    let wait = move || gpus.wait_blocked(slices::GATE, Duration::from_secs(60));
    tokio::task::spawn_blocking(wait).await??;
    Ok(())
}

async fn killed(cluster: &Cluster, namespace: &Namespace, kill: Kill) -> Result<Duration> {
    slices::wait_instances(cluster, 0).await?;
    stopped_inside(cluster, namespace, &shared_slices::pod_with_slice()).await?;
    let driver = pods::only(cluster, SYSTEM_NAMESPACE, slices::DRIVER).await?;
    let process = pods::process(&driver, "sluice-driver", "")?;
    let begin = Instant::now();
    if kill.kubelet {
        let control = cluster.control();
        tokio::task::spawn_blocking(move || control.kill("kubelet")).await??;
    }
    if kill.driver {
        process.signal(Signal::KILL);
    }
    simulated_gpus::open(cluster.workdir())?.remove_fault(slices::GATE)?;
    if kill.wakes {
        slices::wait_driver_back(cluster, process).await?;
        namespace.kubectl(&["annotate", "pod", "one", "example.com/wake=1"]).await?;
    }
    slices::wait_running(namespace, "one").await?;
    let time = begin.elapsed();
    slices::wait_instances(cluster, 1).await?;
    end(cluster, namespace, &["one"]).await?;
    if kill.driver {
        // A container that ends again and again is started again later and later: the next round has a new one.
        let driver = ["delete", "pod", "-n", SYSTEM_NAMESPACE, pods::name(&driver)];
        cluster.kubectl(&driver).await?;
    }
    slices::wait_driver_ready(cluster).await?;
    Ok(time)
}

async fn shared(cluster: &Cluster, namespace: &Namespace) -> Result<Duration> {
    slices::wait_instances(cluster, 0).await?;
    stopped_inside(cluster, namespace, &shared_slices::two_pods_with_one_slice()).await?;
    // The second pod's call is there by then.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let begin = Instant::now();
    simulated_gpus::open(cluster.workdir())?.remove_fault(slices::GATE)?;
    for pod in ["one", "two"] {
        slices::wait_running(namespace, pod).await?;
    }
    let time = begin.elapsed();
    end(cluster, namespace, &["one", "two"]).await?;
    Ok(time)
}

async fn end(cluster: &Cluster, namespace: &Namespace, pods: &[&str]) -> Result<()> {
    namespace.kubectl(&[&["delete", "pod"], pods].concat()).await?;
    namespace.kubectl(&["delete", "resourceclaims", "--all"]).await?;
    slices::wait_instances(cluster, 0).await.map(drop)
}
