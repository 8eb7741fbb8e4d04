//! Warnings about probable mistakes; none is a reason to reject a pod.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sluice_config::names::{SYSTEM_NAMESPACE, pod as names};
use sluice_process::settings::{listed, nearest_within};

use super::annotations::Annotations;
use super::port;
use super::{listening, opts_in};

/// Prefix of all our names.
const PREFIX: &str = "sluice.dev/";
/// Similarity, 0 to 1, from which a prefix counts as a misspelt one of ours.
const LIKELY_PREFIX: f64 = 0.9;
/// Similarity, 0 to 1, from which a name counts as a misspelt one of ours.
const LIKELY: f64 = 0.85;
/// Namespace that the webhooks leave alone, beside Sluice's own.
const LEFT_ALONE: &str = "kube-system";

/// Returns warnings about a pod's labels, annotations, gates and namespace. Sluice runs in `own_namespace`.
pub fn hints(pod: &Pod, namespace: &str, own_namespace: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    let labels = pod.metadata.labels.iter().flatten();
    for (name, value) in labels {
        if name == names::INJECT_LABEL {
            if value != names::INJECT_ENABLED && !is_a_no(value) {
                warnings.push(format!(
                    "metadata.labels[{name}] is {value:?}, so the pod gets no sidecar and no gate; did you mean {:?}?",
                    names::INJECT_ENABLED
                ));
            }
        } else if names::ANNOTATIONS.contains(&name.as_str()) {
            warnings.push(format!(
                "metadata.labels[{name}] is an annotation; write it under metadata.annotations"
            ));
        } else {
            warnings.extend(misspelt("labels", name, &[names::INJECT_LABEL]));
        }
    }
    let annotations = pod.metadata.annotations.as_ref();
    for name in annotations.iter().flat_map(|annotations| annotations.keys()) {
        if name == names::INJECT_LABEL {
            warnings.push(format!("metadata.annotations[{name}] is a label; write it under metadata.labels"));
        } else {
            warnings.extend(misspelt("annotations", name, &names::ANNOTATIONS));
        }
    }
    let gates = pod.spec.iter().flat_map(|spec| spec.scheduling_gates.iter().flatten());
    let is_ours = |name: &str| [names::GATE, names::GATE_ALIAS].contains(&name);
    for (index, gate) in gates.enumerate() {
        let field = format!("spec.schedulingGates[{index}]");
        if !is_ours(&gate.name) {
            if let Some(meant) = nearest_within(&gate.name, [names::GATE, names::GATE_ALIAS], LIKELY) {
                warnings.push(format!(
                    "{field} is {:?}, which nobody of Sluice lifts; did you mean {meant:?}?",
                    gate.name
                ));
            }
        } else if !opts_in(pod) {
            warnings.push(format!(
                "{field} is {:?}, which is lifted on pods that opt in alone, so this pod is never placed; add the \
                 label {}: {}, or remove the gate",
                gate.name,
                names::INJECT_LABEL,
                names::INJECT_ENABLED
            ));
        }
    }
    if opts_in(pod) && is_left_alone(namespace, own_namespace) {
        warnings.push(format!(
            "namespace {namespace} is left alone by Sluice, so this pod gets no sidecar and no gate; run it in another \
             namespace"
        ));
    }
    warnings
}

/// Returns whether the webhooks leave pods of the namespace alone.
pub fn is_left_alone(namespace: &str, own_namespace: &str) -> bool {
    [LEFT_ALONE, SYSTEM_NAMESPACE, own_namespace].contains(&namespace)
}

/// Returns whether a value of the label means to opt out.
fn is_a_no(value: &str) -> bool {
    ["disabled", "false", "no", "off"].contains(&value.to_lowercase().as_str())
}

/// Returns a warning about a name with our prefix, or nearly so, that is none of ours.
fn misspelt(field: &str, name: &str, known: &[&str]) -> Option<String> {
    if known.contains(&name) {
        return None;
    }
    let (prefix, rest) = name.split_once('/').map(|(prefix, rest)| (format!("{prefix}/"), rest))?;
    let is_ours = prefix == PREFIX;
    if !is_ours && nearest_within(&prefix, [PREFIX], LIKELY_PREFIX).is_none() {
        return None;
    }
    let all = names::ANNOTATIONS.into_iter().chain([names::INJECT_LABEL]);
    match nearest_within(rest, all.filter_map(|known| known.strip_prefix(PREFIX)), LIKELY) {
        Some(meant) => {
            Some(format!("metadata.{field}[{name}] means nothing to Sluice; did you mean {PREFIX}{meant}?"))
        }
        None if is_ours => Some(format!(
            "metadata.{field}[{name}] means nothing to Sluice; there are {}",
            listed(&known.iter().copied().take(8).collect::<Vec<_>>())
        )),
        None => None,
    }
}

/// Returns warnings about ports by which requests bypass the sidecar: other ports of the model's container, host ports,
/// and Services that lead to either.
pub fn second_ports(pod: &Pod, services: &[Service]) -> Vec<String> {
    let mut warnings = Vec::new();
    let (Some(spec), Ok(annotations)) = (&pod.spec, Annotations::read(pod)) else { return warnings };
    let Ok(model) = port::find(spec, &annotations.port_name) else { return warnings };
    let mut others: BTreeMap<i32, Option<String>> = BTreeMap::new();
    for (list, container, definition) in listening(spec) {
        let is_model = list == "containers" && container == model.container;
        for (index, defined) in definition.ports.iter().flatten().enumerate() {
            let field = format!("spec.{list}[{container}].ports[{index}]");
            let is_tcp = defined.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
            if !is_model || index == model.port || !is_tcp {
                continue;
            }
            let name = defined.name.as_deref().unwrap_or_default();
            let number = defined.container_port;
            if number == model.number {
                warnings.push(format!(
                    "{field} is the model's port {number} once more; requests by it pass the sidecar by: remove it"
                ));
            } else if !is_of_operators(name) {
                warnings.push(format!(
                    "{field} ({number}) of the model's container is not behind the sidecar: requests by it are not held \
                     while the model is cold, and not drained. HTTP and gRPC both come by port {:?}; a port for metrics \
                     or management is named so, such as metrics",
                    annotations.port_name
                ));
                others.insert(number, defined.name.clone());
            }
            if let Some(host) = defined.host_port.filter(|port| *port != 0) {
                warnings
                    .push(format!("{field}.hostPort {host} leads past the sidecar to the model's container"));
            }
        }
    }
    for service in services.iter().filter(|service| port::selects(service, pod)) {
        warnings.extend(to_another_port(service, &others, &annotations.port_name));
    }
    warnings
}

/// Returns whether a port of that name serves operators, not clients.
fn is_of_operators(name: &str) -> bool {
    ["metric", "prom", "admin", "mgmt", "manage", "debug", "health", "probe"]
        .iter()
        .any(|part| name.contains(part))
}

fn to_another_port(service: &Service, others: &BTreeMap<i32, Option<String>>, front: &str) -> Option<String> {
    let ports = service.spec.as_ref()?.ports.iter().flatten();
    let (position, number) = ports.enumerate().find_map(|(position, port)| {
        let found = others.iter().find(|(number, name)| match &port.target_port {
            Some(IntOrString::Int(target)) => target == *number,
            Some(IntOrString::String(target)) => name.as_ref() == Some(target),
            None => port.port == **number,
        });
        found.map(|(number, _)| (position, *number))
    })?;
    Some(format!(
        "Service {}: spec.ports[{position}].targetPort leads to port {number} of the model's container, past the \
         sidecar; write {front:?}",
        service.metadata.name.as_deref().unwrap_or_default()
    ))
}
