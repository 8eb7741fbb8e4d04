//! Time from a step of the load to the request for more replicas.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tokio::time::Instant;

use super::Spread;
use crate::cluster::Cluster;
use crate::scenarios::{Namespace, sample};
use crate::traffic::load::Load;

/// Time limit of each wait.
const WITHIN: Duration = Duration::from_secs(120);
/// How often replicas are looked at: a fraction of the second between two decisions.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Load that one replica of the sample serves easily, in requests per second.
const LIGHT_RPS: &str = "20";
/// Load that needs several replicas, in requests per second.
const HEAVY_RPS: &str = "220";

/// Light load, then heavy load; the time is from the heavy load's first request to the API server's word of more
/// replicas. In between the load goes away until one replica is left.
pub(super) async fn measure(cluster: &Cluster, rounds: usize) -> Result<Spread> {
    let namespace = Namespace::create(cluster, "figures-step").await?;
    let mut sample = sample::Sample::read(cluster)?;
    sample.object("InferenceAutoscaler")?["spec"]["behavior"] =
        json!({ "scaleDown": { "stabilizationWindowSeconds": 5 } });
    sample.start(&namespace, WITHIN).await?;
    let target = sample::address(&namespace).await?;
    sample::wait_reachable(cluster, &target).await?;
    let mut measured = Vec::new();
    for _ in 0..rounds {
        wait_replicas(cluster, &namespace, |replicas| replicas <= 1).await?;
        Load::start(cluster, &target, &["--rate-rps", LIGHT_RPS, "--duration-ms", "10000"])?.finish().await?;
        let heavy = Load::start(cluster, &target, &["--rate-rps", HEAVY_RPS, "--duration-ms", "20000"])?;
        let began = Instant::now();
        wait_replicas(cluster, &namespace, |replicas| replicas > 1).await?;
        measured.push(began.elapsed());
        heavy.finish().await?;
    }
    namespace.remove().await?;
    Spread::of(&measured).context("no round was measured")
}

async fn wait_replicas(cluster: &Cluster, namespace: &Namespace, is: impl Fn(i32) -> bool) -> Result<()> {
    let deployments =
        kube::Api::<k8s_openapi::api::apps::v1::Deployment>::namespaced(cluster.client(), namespace.name);
    let start = Instant::now();
    while start.elapsed() < WITHIN {
        let deployment = deployments.get(sample::NAME).await?;
        if is(deployment.spec.and_then(|spec| spec.replicas).unwrap_or(1)) {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    anyhow::bail!("the replicas did not change within {} s", WITHIN.as_secs())
}
