//! Conditions of the sample's InferenceAutoscaler.

use std::time::Duration;

use anyhow::Result;

use super::Namespace;
use crate::cluster::{Cluster, Look};

/// The sample's InferenceAutoscaler, as kubectl names it.
pub(super) const AUTOSCALER: &str = "inferenceautoscaler/bert-inference";

/// Returns status, reason and message of a condition, separated by spaces.
pub(super) async fn condition(namespace: &Namespace, name: &str) -> Result<String> {
    let found = format!("{{.status.conditions[?(@.type==\"{name}\")]");
    let path = format!("jsonpath={found}.status}} {found}.reason}} {found}.message}}");
    namespace.kubectl(&["get", AUTOSCALER, "-o", &path]).await
}

/// Waits until a condition begins with `wanted`, such as `True` or `True RolloutLowered`; returns the whole condition.
pub(super) async fn wait_condition(
    cluster: &Cluster,
    namespace: &Namespace,
    name: &str,
    wanted: &str,
    within: Duration,
) -> Result<String> {
    cluster
        .wait_for(&format!("{name} is {wanted}"), within, || async {
            let said = condition(namespace, name).await?;
            Ok(if said.starts_with(wanted) { Look::Done(said) } else { Look::NotYet(said) })
        })
        .await
}
