//! `kubectl sluice explain`: why an InferenceAutoscaler scaled, or did not.

use anyhow::anyhow;
use std::fmt::Write;

use sluice_config::api::InferenceAutoscaler;
use sluice_config::api::inference_autoscaler::InferenceAutoscalerStatus;
use sluice_process::printable::printable;

use super::ObjectSource;
use super::capacity::aligned;
use crate::platform::name_of;

/// Returns the output for one autoscaler.
///
/// # Errors
/// No autoscaler has this name; the error lists those that exist.
pub fn explain(source: &dyn ObjectSource, namespace: Option<&str>, name: &str) -> anyhow::Result<String> {
    // Texts of objects are escaped; only this code makes lines.
    let default = source.default_namespace();
    let namespace = namespace.unwrap_or(&default);
    let all = source.autoscalers()?;
    let found = all.iter().find(|object| name_of(object) == (namespace.to_owned(), name.to_owned()));
    match found {
        Some(object) => Ok(text(object)),
        None if all.is_empty() => Err(anyhow!("there are no InferenceAutoscalers; {}", source.hint())),
        None => {
            let names: Vec<String> = all
                .iter()
                .map(|object| {
                    let (namespace, name) = name_of(object);
                    printable(&format!("{namespace}/{name}")).into_owned()
                })
                .collect();
            let wanted = format!("{namespace}/{name}");
            Err(anyhow!(
                "there is no InferenceAutoscaler {}; there are: {}",
                printable(&wanted),
                names.join(", ")
            ))
        }
    }
}

fn text(object: &InferenceAutoscaler) -> String {
    let (namespace, name) = name_of(object);
    let (namespace, name) = (printable(&namespace), printable(&name));
    let spec = &object.spec;
    let mut text = format!(
        "{namespace}/{name} scales {} {}\nObjective: p{} of model {} within {} ms, {} to {} replicas{}{}\n",
        printable(&spec.scale_target_ref.kind),
        printable(&spec.scale_target_ref.name),
        spec.objective.percentile,
        printable(&spec.model),
        spec.objective.latency_ms,
        spec.min_replicas,
        spec.max_replicas,
        if spec.paused { ", paused" } else { "" },
        if spec.dry_run { ", dry run" } else { "" },
    );
    let Some(status) = &object.status else {
        text.push_str("No decision yet.\n");
        return text;
    };
    let _ = writeln!(
        text,
        "Replicas: {} desired, {} existing, {} ready\n",
        status.desired_replicas, status.current_replicas, status.ready_replicas
    );
    text.push_str(&conditions(status));
    text.push_str(&decisions(status));
    text
}

fn conditions(status: &InferenceAutoscalerStatus) -> String {
    let mut rows = vec![["CONDITION", "STATUS", "SINCE", "REASON", "MESSAGE"].map(str::to_owned)];
    rows.extend(status.conditions.iter().map(|condition| {
        [
            condition.type_.clone(),
            condition.status.clone(),
            condition.last_transition_time.0.to_string(),
            condition.reason.clone(),
            condition.message.clone(),
        ]
    }));
    aligned(&rows)
}

fn decisions(status: &InferenceAutoscalerStatus) -> String {
    let mut text = String::from("\nLast decisions, newest first:\n");
    if status.decisions.is_empty() {
        text.push_str("  none\n");
    }
    for decision in &status.decisions {
        let change = if decision.from == decision.to {
            format!("stays at {}", decision.to)
        } else {
            format!("{} to {}", decision.from, decision.to)
        };
        let head = format!("{}  {change}  {}: {}", decision.time, decision.reason, decision.message);
        let _ = writeln!(text, "\n{}", printable(&head));
        for line in &decision.explanation {
            let _ = writeln!(text, "    {}", printable(line));
        }
    }
    text
}
