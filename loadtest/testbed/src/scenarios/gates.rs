//! Scheduling gates: a pod is not placed before there is a slice for it, and a missing preloader does not hold pods for
//! ever.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sluice_config::names::{SYSTEM_NAMESPACE, pod as names};

use super::sample::{NAME, PODS, Sample};
use super::{Namespace, pods};
use crate::cluster::{Cluster, Look};

/// Slices of the sample's profile that the node's two GPUs have.
const SLICES: u32 = 6;
/// How long pods may take to serve.
const WITHIN: Duration = Duration::from_secs(120);
/// The gate's deadline in these scenarios.
const DEADLINE: Duration = Duration::from_secs(20);

/// A pod for which there is no slice stays gated, and is placed when one is given back.
pub(super) async fn waits_for_a_slice(cluster: Cluster) -> Result<()> {
    let namespace = Namespace::create(&cluster, "waits-for-a-slice").await?;
    let sample = Sample::read(&cluster)?.without("InferenceAutoscaler").replicas(SLICES)?;
    let observer = pods::Observer::start(&cluster, namespace.name, PODS);
    sample.start(&namespace, WITHIN).await?;
    namespace
        .kubectl(&["scale", &format!("deployment/{NAME}"), &format!("--replicas={}", SLICES + 1)])
        .await?;
    let gated = gated(&cluster, &namespace, 1).await?;
    // Long enough for a wrong lift to show.
    tokio::time::sleep(Duration::from_secs(5)).await;
    ensure!(self::gated(&cluster, &namespace, 1).await? == gated, "another pod is gated now");
    let running = pods::list(&cluster, namespace.name, PODS).await?;
    let victim = running.iter().find(|pod| pods::is(pod, "Ready")).context("no pod is ready")?;
    // The Deployment makes another pod in its place, which is younger: the oldest is lifted first.
    namespace.kubectl(&["delete", "pod", pods::name(victim)]).await?;
    cluster
        .wait_for("the gated pod is ready", WITHIN, || async {
            let pod = namespace.kubectl(&["get", "pod", &gated, "-o", "jsonpath={.status.phase}"]).await?;
            Ok(if pod == "Running" { Look::Done(()) } else { Look::NotYet(pod) })
        })
        .await?;
    let (longest, pod) = observer.seen().unschedulable;
    ensure!(longest <= Duration::from_secs(5), "pod {pod} was Unschedulable for {} ms", longest.as_millis());
    namespace.remove().await
}

/// Waits until exactly `count` pods are gated and returns the name of the first.
async fn gated(cluster: &Cluster, namespace: &Namespace, count: usize) -> Result<String> {
    cluster
        .wait_for(&format!("{count} pods are gated"), Duration::from_secs(30), || async {
            let pods = pods::list(cluster, namespace.name, PODS).await?;
            let gated: Vec<&str> = pods.iter().filter(|pod| pods::is_gated(pod)).map(pods::name).collect();
            Ok(match gated.first() {
                Some(first) if gated.len() == count => Look::Done((*first).to_owned()),
                _ => Look::NotYet(format!("gated are {gated:?}")),
            })
        })
        .await
}

/// With no preloader left, the watchdog lifts gates after their deadline.
pub(super) async fn preloader_gone(cluster: Cluster) -> Result<()> {
    let namespace = Namespace::create(&cluster, "preloader-gone").await?;
    let scale = async |replicas: &str| {
        let replicas = format!("--replicas={replicas}");
        let preloader = ["-n", SYSTEM_NAMESPACE, "scale", "deployment/sluice-preloader", &replicas];
        cluster.kubectl(&preloader).await
    };
    let mut sample = Sample::read(&cluster)?.without("InferenceAutoscaler").replicas(SLICES)?;
    sample.start(&namespace, WITHIN).await?;
    let deadline = DEADLINE.as_secs().to_string();
    sample.object("Deployment")?["spec"]["template"]["metadata"]["annotations"]
        [names::GATE_DEADLINE_ANNOTATION] = json!(deadline);
    let result = async {
        // A second Deployment, for whose pod there is no slice.
        let late = sample.clone().renamed("late")?.replicas(1)?;
        namespace.apply(&late.list()).await?;
        cluster
            .wait_for("the late pod is there", WITHIN, || async {
                pods::only(&cluster, namespace.name, "app=late").await.map(Look::Done)
            })
            .await?;
        scale("0").await?;
        namespace.kubectl(&["scale", &format!("deployment/{NAME}"), "--replicas=1"]).await?;
        pods::wait_ready(&cluster, &namespace, "app=late", 1, DEADLINE + WITHIN).await
    };
    let result = result.await;
    // Also after a failure: the next scenario needs the preloader.
    scale("2").await?;
    cluster.wait_rollout(SYSTEM_NAMESPACE, "deployment/sluice-preloader", WITHIN).await?;
    result?;
    namespace.remove().await
}
