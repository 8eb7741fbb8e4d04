//! A rollout on a full cluster, and pods that cannot be created: the rollout ends, and conditions name the cause.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use super::conditions::wait_condition;
use super::sample::{self, NAME, PODS, Sample};
use super::{Namespace, pods};
use crate::cluster::{Cluster, Look};
use crate::traffic::load::Load;

/// Slices of the sample's profile that the node's two GPUs have.
const SLICES: u32 = 6;
/// How long the sample may take to serve, and a rollout of all its pods to end.
const WITHIN: Duration = Duration::from_secs(180);
/// Time within which a condition must appear.
const SAID_WITHIN: Duration = Duration::from_secs(120);

/// Starts the sample with replicas on all slices. `maxSurge: 1` and `maxUnavailable: 0` are set in the sample itself.
async fn full(cluster: &Cluster, name: &'static str, minimum: u32) -> Result<Namespace> {
    let namespace = Namespace::create(cluster, name).await?;
    let mut sample = Sample::read(cluster)?.replicas(SLICES)?;
    let spec = &mut sample.object("InferenceAutoscaler")?["spec"];
    spec["minReplicas"] = json!(minimum);
    // The replicas that it begins with stay for longer than the scenario takes.
    spec["behavior"] = json!({ "scaleDown": { "stabilizationWindowSeconds": 600 } });
    sample.start(&namespace, WITHIN).await?;
    // From then on the autoscaler knows the demand and the service curve.
    wait_condition(cluster, &namespace, "ScalingActive", "True", SAID_WITHIN).await?;
    Ok(namespace)
}

/// A new pod needs a slice before an old one goes, and there is none: one replica fewer lets the rollout end, without
/// a lost request.
pub(super) async fn full_cluster(cluster: Cluster) -> Result<()> {
    let namespace = full(&cluster, "rollout-on-full", 1).await?;
    let target = sample::address(&namespace).await?;
    sample::wait_reachable(&cluster, &target).await?;
    let before = pods::list(&cluster, namespace.name, PODS).await?;
    let arguments = [
        "--protocol",
        "rest-json=1,grpc=1",
        "--rate-rps",
        "20",
        "--duration-ms",
        "120000",
        "--timeout-ms",
        "60000",
    ];
    let load = Load::start(&cluster, &target, &arguments)?;
    let deployment = format!("deployment/{NAME}");
    namespace.kubectl(&["rollout", "restart", &deployment]).await?;
    wait_condition(&cluster, &namespace, "CapacityLimited", "True RolloutLowered", SAID_WITHIN).await?;
    let lowered = namespace.kubectl(&["get", &deployment, "-o", "jsonpath={.spec.replicas}"]).await?;
    ensure!(lowered == (SLICES - 1).to_string(), "{lowered} replicas, not one fewer than {SLICES}");
    namespace.wait_rollout(&deployment, WITHIN).await?;
    let after = pods::list(&cluster, namespace.name, PODS).await?;
    ensure!(
        after.iter().all(|pod| before.iter().all(|old| pods::name(old) != pods::name(pod))),
        "a pod was not replaced"
    );
    wait_condition(&cluster, &namespace, "CapacityLimited", "False", SAID_WITHIN).await?;
    let report = load.finish().await?;
    ensure!(report["requests"].as_u64() > Some(0), "no request was sent: {report}");
    ensure!(report["lost"] == 0 && report["failed"] == 0, "requests were lost: {report}");
    namespace.remove().await
}

/// Where the minimum allows no replica fewer, a condition names the pods that hold the slices, and a remedy that works.
pub(super) async fn full_cluster_at_minimum(cluster: Cluster) -> Result<()> {
    let namespace = full(&cluster, "rollout-at-minimum", SLICES).await?;
    let deployment = format!("deployment/{NAME}");
    namespace.kubectl(&["rollout", "restart", &deployment]).await?;
    let said =
        wait_condition(&cluster, &namespace, "CapacityLimited", "True RolloutWaitsForSlice", SAID_WITHIN)
            .await?;
    for words in ["its own 6 old pods", "minReplicas", "maxUnavailable: 1 and maxSurge: 0"] {
        ensure!(said.contains(words), "CapacityLimited does not contain {words:?}: {said}");
    }
    let strategy =
        json!({ "spec": { "strategy": { "rollingUpdate": { "maxSurge": 0, "maxUnavailable": 1 } } } });
    namespace.kubectl(&["patch", &deployment, "--patch", &strategy.to_string()]).await?;
    namespace.wait_rollout(&deployment, WITHIN).await?;
    wait_condition(&cluster, &namespace, "CapacityLimited", "False", SAID_WITHIN).await?;
    namespace.remove().await
}

/// A quota on limits rejects pods whose containers have no limits; when the quota is gone, the sample serves.
pub(super) async fn quota(cluster: Cluster) -> Result<()> {
    let namespace = Namespace::create(&cluster, "quota-on-limits").await?;
    let quota = json!({
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": { "name": "compute" },
        "spec": { "hard": { "limits.cpu": "1", "limits.memory": "1Mi" } },
    });
    namespace.apply(&quota.to_string()).await?;
    cluster
        .wait_for("the quota is in force", SAID_WITHIN, || async {
            let found = namespace
                .kubectl(&["get", "resourcequota", "compute", "-o", "jsonpath={.status.hard}"])
                .await?;
            Ok(if found.is_empty() { Look::NotYet("it is not".to_owned()) } else { Look::Done(()) })
        })
        .await?;
    namespace.apply(&Sample::read(&cluster)?.list()).await?;
    let said = wait_condition(&cluster, &namespace, "Ready", "False FailedCreate", SAID_WITHIN).await?;
    ensure!(said.contains("quota: compute"), "Ready does not name the quota: {said}");
    let events = [
        "get",
        "events",
        "--field-selector",
        "reason=ReplicasNotReady",
        "-o",
        "jsonpath={.items[*].message}",
    ];
    cluster
        .wait_for("an event names the quota", SAID_WITHIN, || async {
            let events = namespace.kubectl(&events).await?;
            Ok(if events.contains("quota: compute") { Look::Done(()) } else { Look::NotYet(events) })
        })
        .await?;
    namespace.kubectl(&["delete", "resourcequota", "compute"]).await?;
    // The ReplicaSet tries again in growing pauses; a new one tries at once.
    let deployment = format!("deployment/{NAME}");
    namespace.kubectl(&["rollout", "restart", &deployment]).await?;
    namespace.wait_rollout(&deployment, WITHIN).await?;
    wait_condition(&cluster, &namespace, "Ready", "True ReplicasReady", SAID_WITHIN).await?;
    namespace.remove().await
}
