//! What changes in the model's own container: its port loses the name, its probes go by way of the sidecar, and
//! it is drained before it is stopped.

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, LifecycleHandler, PodSpec, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sluice_config::names::pod as names;

use super::Refusal;
use super::port::ModelPort;

/// Path prefix under which the sidecar's admin port passes a probe on to the model.
const PROBE_PREFIX: &str = "/upstream";

/// Makes the changes; the result is the paths that the sidecar is to pass on.
pub(super) fn prepare(
    spec: &mut PodSpec,
    found: &ModelPort,
    drain_ms: u64,
    token: &str,
) -> Result<Vec<String>, Refusal> {
    let field = format!("spec.containers[{}]", found.container);
    let Some(container) = spec.containers.get_mut(found.container) else {
        return Err(Refusal::new(field, "is missing"));
    };
    if let Some(port) = container.ports.iter_mut().flatten().nth(found.port) {
        // Services find a port by its name, and the name is the sidecar's now.
        port.name = None;
    }
    drain_before_stop(container, &field, drain_ms, token)?;
    let mut paths = Vec::new();
    for (name, probe) in [
        ("livenessProbe", &mut container.liveness_probe),
        ("readinessProbe", &mut container.readiness_probe),
        ("startupProbe", &mut container.startup_probe),
    ] {
        if let Some(probe) = probe {
            ask_through_sidecar(probe, &format!("{field}.{name}"), found, &mut paths)?;
        }
    }
    Ok(paths)
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
    found: &ModelPort,
    paths: &mut Vec<String>,
) -> Result<(), Refusal> {
    let is_models = |port: &IntOrString| match port {
        IntOrString::Int(number) => *number == found.number,
        IntOrString::String(name) => *name == found.name,
    };
    if let Some(get) = probe.http_get.as_mut().filter(|get| is_models(&get.port)) {
        if get.host.as_ref().is_some_and(|host| !host.is_empty()) {
            get.port = IntOrString::Int(found.number);
            return Ok(());
        }
        if get.scheme.as_deref() == Some("HTTPS") {
            let problem = "is HTTPS, but a model behind the sidecar speaks plain HTTP inside its pod";
            return Err(Refusal::new(format!("{field}.httpGet.scheme"), problem));
        }
        let path = match get.path.as_deref() {
            Some(path) if path.starts_with('/') => path.to_owned(),
            path => format!("/{}", path.unwrap_or_default()),
        };
        if path.contains(',') {
            let problem = format!("{path:?} has a comma, which a probe by way of the sidecar cannot have");
            return Err(Refusal::new(format!("{field}.httpGet.path"), problem));
        }
        get.path = Some(format!("{PROBE_PREFIX}{path}"));
        get.port = IntOrString::Int(i32::from(names::ADMIN_PORT));
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    if let Some(socket) = probe.tcp_socket.as_mut().filter(|socket| is_models(&socket.port)) {
        socket.port = IntOrString::Int(found.number);
    }
    Ok(())
}
