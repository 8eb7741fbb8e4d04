//! Settings that cannot work are rejected when they are written, with the name of the field.

use anyhow::{Result, bail, ensure};
use serde_json::json;

use super::Namespace;
use super::sample::Sample;
use crate::cluster::Cluster;

/// Applies `objects`, which must be rejected, and returns the message.
async fn refusal(namespace: &Namespace, objects: &str) -> Result<String> {
    match namespace.apply(objects).await {
        Ok(()) => bail!("it was accepted: {objects}"),
        Err(error) => Ok(format!("{error:#}")),
    }
}

/// The rejection of each wrong field of an InferenceAutoscaler names the field.
pub(super) async fn wrong_autoscaler(cluster: Cluster) -> Result<()> {
    let namespace = Namespace::create(&cluster, "wrong-autoscaler").await?;
    let right = Sample::read(&cluster)?.object("InferenceAutoscaler")?.clone();
    namespace.apply(&right.to_string()).await?;
    for (pointer, value, named) in [
        ("/spec/objective/percentile", json!(100), "spec.objective.percentile"),
        ("/spec/objective/percentile", json!(0.95), "did you mean 95?"),
        ("/spec/objective/latencyMs", json!(0), "spec.objective.latencyMs"),
        ("/spec/objective/latencyMs", json!("300ms"), "latencyMs: milliseconds without a unit, e.g. 300"),
        ("/spec/maxReplicas", json!(0), "maxReplicas"),
        ("/spec/scaleTargetRef", json!({ "kind": "Deployment" }), "spec.scaleTargetRef.name"),
        ("/spec/model", json!(7), "spec.model"),
    ] {
        let mut wrong = right.clone();
        if let Some(field) = wrong.pointer_mut(pointer) {
            *field = value;
        }
        let said = refusal(&namespace, &wrong.to_string()).await?;
        ensure!(said.contains(named), "the rejection of {pointer} does not name {named}: {said}");
    }
    let mut unknown = right;
    unknown["spec"]["maxReplica"] = json!(3);
    let said = refusal(&namespace, &unknown.to_string()).await?;
    ensure!(said.contains("maxReplica"), "the rejection of an unknown field does not name it: {said}");
    namespace.remove().await
}

/// The rejection of a pod whose model port is ambiguous names the field.
pub(super) async fn ambiguous_port(cluster: Cluster) -> Result<()> {
    let namespace = Namespace::create(&cluster, "ambiguous-port").await?;
    let template = Sample::read(&cluster)?.object("Deployment")?["spec"]["template"].clone();
    let mut pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"] });
    pod["metadata"]["name"] = json!("ambiguous");

    let mut twice = pod.clone();
    let mut second = twice["spec"]["containers"][0].clone();
    second["name"] = json!("second");
    twice["spec"]["containers"].as_array_mut().into_iter().for_each(|all| all.push(second.clone()));
    let said = refusal(&namespace, &twice.to_string()).await?;
    ensure!(said.contains("spec.containers[1].ports[0].name"), "the field is not named: {said}");

    let mut none = pod.clone();
    none["spec"]["containers"][0]["ports"] = json!([{ "containerPort": 9000 }]);
    let said = refusal(&namespace, &none.to_string()).await?;
    ensure!(said.contains("spec.containers") && said.contains("http"), "the field is not named: {said}");

    let mut number = pod;
    number["metadata"]["annotations"][sluice_config::names::pod::PORT_ANNOTATION] = json!("9000");
    let said = refusal(&namespace, &number.to_string()).await?;
    ensure!(said.contains(sluice_config::names::pod::PORT_ANNOTATION), "the annotation is not named: {said}");
    namespace.remove().await
}
