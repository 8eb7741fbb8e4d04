//! Other writers of a target's replicas and other pods in its selector: an HPA, another Deployment, a person who sets
//! zero.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use sluice_config::names::SYSTEM_NAMESPACE;

use super::Namespace;
use super::conditions::{AUTOSCALER, wait_condition};
use super::sample::{NAME, Sample};
use crate::cluster::{Cluster, Look};

/// How long the sample may take to serve.
const SERVES_WITHIN: Duration = Duration::from_secs(120);
/// How long a condition or a change of replicas may take.
const WITHIN: Duration = Duration::from_secs(90);
/// Long enough for many decisions, and for one of the HPA, which comes every 15 s.
const A_WHILE: Duration = Duration::from_secs(20);

/// Returns the sample with at most `most` replicas.
async fn start(cluster: &Cluster, name: &'static str, most: u32) -> Result<Namespace> {
    let namespace = Namespace::create(cluster, name).await?;
    let mut sample = Sample::read(cluster)?;
    sample.object("InferenceAutoscaler")?["spec"]["maxReplicas"] = json!(most);
    sample.start(&namespace, SERVES_WITHIN).await?;
    wait_condition(cluster, &namespace, "AbleToScale", "True", WITHIN).await?;
    Ok(namespace)
}

/// Returns the desired replicas and the generation of the Deployment, which counts its changes.
async fn asked(namespace: &Namespace) -> Result<String> {
    let what = "jsonpath={.spec.replicas} at generation {.metadata.generation}";
    namespace.kubectl(&["get", &format!("deployment/{NAME}"), "-o", what]).await
}

async fn wait_replicas(cluster: &Cluster, namespace: &Namespace, replicas: u32) -> Result<()> {
    cluster
        .wait_for(&format!("{replicas} replicas are asked for"), WITHIN, || async {
            let found = asked(namespace).await?;
            let is_so = found.starts_with(&format!("{replicas} "));
            Ok(if is_so { Look::Done(()) } else { Look::NotYet(found) })
        })
        .await
}

/// Checks that the Deployment does not change for a while.
async fn stays(namespace: &Namespace) -> Result<()> {
    let before = asked(namespace).await?;
    tokio::time::sleep(A_WHILE).await;
    let after = asked(namespace).await?;
    ensure!(before == after, "{before} replicas became {after}");
    Ok(())
}

/// An HPA wants at least two replicas where the InferenceAutoscaler allows one: the autoscaler writes nothing, and a
/// condition names the HPA.
pub(super) async fn beside_an_hpa(cluster: Cluster) -> Result<()> {
    let namespace = start(&cluster, "beside-an-hpa", 1).await?;
    let hpa = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": { "name": "other" },
        "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": NAME },
            "minReplicas": 2, "maxReplicas": 3,
            "metrics": [{ "type": "Resource", "resource": {
                "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 80 },
            } }],
        },
    });
    namespace.apply(&hpa.to_string()).await?;
    let said = wait_condition(&cluster, &namespace, "AbleToScale", "False AmbiguousTarget", WITHIN).await?;
    ensure!(said.contains("HorizontalPodAutoscaler beside-an-hpa/other"), "the HPA is not named: {said}");
    wait_replicas(&cluster, &namespace, 2).await?;
    stays(&namespace).await?;
    namespace.kubectl(&["delete", "hpa/other"]).await?;
    wait_condition(&cluster, &namespace, "AbleToScale", "True", WITHIN).await?;
    wait_replicas(&cluster, &namespace, 1).await?;
    namespace.remove().await
}

/// A canary's pods have labels that the sample's selector matches: the sample's replicas stay, although they are idle.
pub(super) async fn overlapping_selector(cluster: Cluster) -> Result<()> {
    let namespace = start(&cluster, "overlapping-selector", 8).await?;
    let mut canary = Sample::read(&cluster)?;
    let canary = canary.object("Deployment")?;
    canary["metadata"]["name"] = json!("canary");
    canary["spec"]["selector"]["matchLabels"]["track"] = json!("canary");
    canary["spec"]["template"]["metadata"]["labels"]["track"] = json!("canary");
    namespace.apply(&canary.to_string()).await?;
    namespace.wait_rollout("deployment/canary", SERVES_WITHIN).await?;
    let said = wait_condition(&cluster, &namespace, "AbleToScale", "False AmbiguousSelector", WITHIN).await?;
    ensure!(said.contains("Deployment canary"), "the condition does not name the Deployment: {said}");
    wait_replicas(&cluster, &namespace, 1).await?;
    stays(&namespace).await?;
    namespace.kubectl(&["delete", "deployment/canary"]).await?;
    wait_condition(&cluster, &namespace, "AbleToScale", "True", WITHIN).await?;
    namespace.remove().await
}

/// Zero replicas set by hand switch scaling off, one replica set by hand switches it on again.
pub(super) async fn zero_by_hand(cluster: Cluster) -> Result<()> {
    let namespace = start(&cluster, "zero-by-hand", 2).await?;
    let target = format!("deployment/{NAME}");
    namespace.kubectl(&["scale", &target, "--replicas=0"]).await?;
    wait_condition(&cluster, &namespace, "ScalingActive", "False ScalingDisabled", WITHIN).await?;
    stays(&namespace).await?;
    namespace.kubectl(&["scale", &target, "--replicas=1"]).await?;
    namespace.wait_rollout(&target, SERVES_WITHIN).await?;
    cluster
        .wait_for("scaling is on again", WITHIN, || async {
            let path =
                "jsonpath={.status.readyReplicas} {.status.conditions[?(@.type==\"ScalingActive\")].reason}";
            let said = namespace.kubectl(&["get", AUTOSCALER, "-o", path]).await?;
            let is_on = said.starts_with("1 ") && !said.contains("ScalingDisabled");
            Ok(if is_on { Look::Done(()) } else { Look::NotYet(said) })
        })
        .await?;
    namespace.remove().await
}

/// The shipped role reads Rollouts and LeaderWorkerSets, and by its label a kind of the user's own.
pub(super) async fn readable_targets(cluster: Cluster) -> Result<()> {
    const ROLE: &str = "readable-targets";
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": { "name": ROLE, "labels": { "sluice.dev/aggregate-to-autoscaler": "true" } },
        "rules": [{ "apiGroups": ["example.com"], "resources": ["mymodels"], "verbs": ["get"] }],
    });
    cluster.apply(&role.to_string()).await?;
    for (group, resource) in [
        ("argoproj.io", "rollouts"),
        ("leaderworkerset.x-k8s.io", "leaderworkersets"),
        ("example.com", "mymodels"),
    ] {
        cluster
            .wait_for(&format!("the autoscaler may get {resource}.{group}"), WITHIN, || async {
                let said = may(&cluster, "get", group, resource).await?;
                Ok(if said == "true" { Look::Done(()) } else { Look::NotYet(said) })
            })
            .await?;
        let said = may(&cluster, "update", group, resource).await?;
        ensure!(said != "true", "the autoscaler may update {resource}.{group}");
    }
    cluster.kubectl(&["delete", "clusterrole", ROLE]).await.map(drop)
}

/// Asks whether the autoscaler may do this in all namespaces; returns `true`, or something else.
async fn may(cluster: &Cluster, verb: &str, group: &str, resource: &str) -> Result<String> {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {
            "user": format!("system:serviceaccount:{SYSTEM_NAMESPACE}:sluice-autoscaler"),
            "resourceAttributes": { "verb": verb, "group": group, "resource": resource },
        },
    });
    let arguments = ["create", "-f", "-", "-o", "jsonpath={.status.allowed}"];
    cluster.kubectl_with_input(&arguments, &review.to_string()).await
}
