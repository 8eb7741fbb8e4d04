//! What changes in the model's own container: its port loses the name, its probes go by way of the sidecar, and
//! it is drained before it is stopped.

use std::fmt::Write;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, LifecycleHandler, PodSpec, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sluice_config::names::pod as names;

use super::Refusal;
use super::port::ModelPort;

/// Where the sidecar's admin port asks the model for the kubelet; not listening yet is no failure.
const ASK_LIVE: &str = "/upstream-livez";
/// The same; not listening yet is a failure.
const ASK_STARTED: &str = "/upstream-startedz";

/// Makes the changes.
pub(super) fn prepare(
    spec: &mut PodSpec,
    found: &ModelPort,
    drain_ms: u64,
    token: &str,
) -> Result<(), Refusal> {
    let field = format!("spec.containers[{}]", found.container);
    let Some(container) = spec.containers.get_mut(found.container) else {
        return Err(Refusal::new(field, "is missing"));
    };
    if let Some(port) = container.ports.iter_mut().flatten().nth(found.port) {
        // Services find a port by its name, and the name is the sidecar's now.
        port.name = None;
    }
    drain_before_stop(container, &field, drain_ms, token)?;
    for (name, probe, question) in [
        ("livenessProbe", &mut container.liveness_probe, ASK_LIVE),
        ("readinessProbe", &mut container.readiness_probe, ASK_STARTED),
        ("startupProbe", &mut container.startup_probe, ASK_STARTED),
    ] {
        if let Some(probe) = probe {
            ask_through_sidecar(probe, &format!("{field}.{name}"), question, found)?;
        }
    }
    Ok(())
}

fn drain_before_stop(
    container: &mut Container,
    field: &str,
    drain_ms: u64,
    token: &str,
) -> Result<(), Refusal> {
    let lifecycle = container.lifecycle.get_or_insert_default();
    if lifecycle.pre_stop.is_some() {
        let problem = "the model is drained by a hook of its own, and a container has only one; remove it \
                       (a wait until nobody sends any more is part of the drain)";
        return Err(Refusal::new(format!("{field}.lifecycle.preStop"), problem));
    }
    lifecycle.pre_stop = Some(LifecycleHandler {
        http_get: Some(HTTPGetAction {
            path: Some(format!("/drain?token={token}&deadline_ms={drain_ms}")),
            port: IntOrString::Int(i32::from(names::ADMIN_PORT)),
            ..HTTPGetAction::default()
        }),
        ..LifecycleHandler::default()
    });
    Ok(())
}

/// A model that listens on loopback alone cannot be asked by the kubelet; the sidecar asks for it.
fn ask_through_sidecar(
    probe: &mut Probe,
    field: &str,
    question: &str,
    found: &ModelPort,
) -> Result<(), Refusal> {
    let is_models = |port: &IntOrString| match port {
        IntOrString::Int(number) => *number == found.number,
        IntOrString::String(name) => *name == found.name,
    };
    if let Some(get) = probe.http_get.as_mut().filter(|get| is_models(&get.port)) {
        if get.scheme.as_deref() == Some("HTTPS") {
            let problem = "is HTTPS, but a model behind the sidecar speaks plain HTTP inside its pod";
            return Err(Refusal::new(format!("{field}.httpGet.scheme"), problem));
        }
        if get.host.as_ref().is_some_and(|host| !host.is_empty()) {
            // Somebody else's port of that number.
            return Ok(());
        }
        let path = get.path.as_deref().unwrap_or_default();
        let slash = if path.starts_with('/') { "" } else { "/" };
        get.path = Some(format!("{question}?path={slash}{}", encoded(path)));
        get.port = IntOrString::Int(i32::from(names::ADMIN_PORT));
    }
    if probe.tcp_socket.as_ref().is_some_and(|socket| is_models(&socket.port)) {
        probe.tcp_socket = None;
        probe.http_get = Some(HTTPGetAction {
            path: Some(question.to_owned()),
            port: IntOrString::Int(i32::from(names::ADMIN_PORT)),
            ..HTTPGetAction::default()
        });
    }
    Ok(())
}

/// A path as the value of a query's parameter.
fn encoded(path: &str) -> String {
    path.bytes().fold(String::with_capacity(path.len()), |mut text, byte| {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                text.push(char::from(byte))
            }
            // Writing to a String cannot fail.
            _ => drop(write!(text, "%{byte:02X}")),
        }
        text
    })
}
