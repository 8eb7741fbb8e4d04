//! Changes of the model's own container: its port loses the name, its probes go through the sidecar, and it is drained
//! before it is stopped.

use std::fmt::Write;

use k8s_openapi::api::core::v1::{Container, EnvVar, HTTPGetAction, LifecycleHandler, PodSpec, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sluice_config::names::pod as names;

use super::InjectionError;
use super::hook::OwnHook;
use super::port::{ModelPort, OwnPorts};

/// Path of the sidecar's admin port that relays a probe to the model; succeeds while the model does not listen yet.
const ASK_LIVE: &str = "/upstream-livez";
/// Path that relays a probe to the model; fails while the model does not listen yet.
const ASK_STARTED: &str = "/upstream-startedz";

/// Changes the model's container; returns what the sidecar does for the template's own hook.
pub(super) fn prepare(
    spec: &mut PodSpec,
    found: &ModelPort,
    own: OwnPorts,
    drain_ms: u64,
    token: &str,
) -> Result<OwnHook, InjectionError> {
    let field = format!("spec.containers[{}]", found.container);
    let Some(container) = spec.containers.get_mut(found.container) else {
        return Err(InjectionError::new(field, "is missing"));
    };
    // Before the port loses its name: a hook may refer to it.
    let hook = drain_before_stop(container, &field, own, drain_ms, token)?;
    if let Some(port) = container.ports.iter_mut().flatten().nth(found.port) {
        // Services find a port by its name, and the name is the sidecar's now.
        port.name = None;
    }
    for (name, probe, question) in [
        ("livenessProbe", &mut container.liveness_probe, ASK_LIVE),
        ("readinessProbe", &mut container.readiness_probe, ASK_STARTED),
        ("startupProbe", &mut container.startup_probe, ASK_STARTED),
    ] {
        if let Some(probe) = probe {
            ask_through_sidecar(probe, &format!("{field}.{name}"), question, found, own)?;
        }
    }
    Ok(hook)
}

/// Makes the drain the container's hook; returns what the sidecar does for the template's own.
fn drain_before_stop(
    container: &mut Container,
    field: &str,
    own: OwnPorts,
    drain_ms: u64,
    token: &str,
) -> Result<OwnHook, InjectionError> {
    let theirs = container.lifecycle.as_mut().and_then(|lifecycle| lifecycle.pre_stop.take());
    let hook = match &theirs {
        Some(theirs) => OwnHook::of(theirs, container, &format!("{field}.lifecycle.preStop"))?,
        None => OwnHook::None,
    };
    let path = format!("/drain?token={token}&deadline_ms={drain_ms}");
    if hook == OwnHook::Drains {
        container.env.get_or_insert_default().push(EnvVar {
            name: names::DRAIN_URL.to_owned(),
            value: Some(format!("http://127.0.0.1:{}{path}", own.admin)),
            value_from: None,
        });
        container.lifecycle.get_or_insert_default().pre_stop = theirs;
        return Ok(hook);
    }
    container.lifecycle.get_or_insert_default().pre_stop = Some(LifecycleHandler {
        http_get: Some(HTTPGetAction {
            path: Some(path),
            port: IntOrString::Int(i32::from(own.admin)),
            ..HTTPGetAction::default()
        }),
        ..LifecycleHandler::default()
    });
    Ok(hook)
}

/// Sends a probe of the model's port through the sidecar: the kubelet cannot reach a model that listens on loopback alone.
fn ask_through_sidecar(
    probe: &mut Probe,
    field: &str,
    question: &str,
    found: &ModelPort,
    own: OwnPorts,
) -> Result<(), InjectionError> {
    let is_models = |port: &IntOrString| match port {
        IntOrString::Int(number) => *number == found.number,
        IntOrString::String(name) => *name == found.name,
    };
    if let Some(get) = probe.http_get.as_mut().filter(|get| is_models(&get.port)) {
        if get.scheme.as_deref() == Some("HTTPS") {
            let problem = "is HTTPS, but a model behind the sidecar speaks plain HTTP inside its pod";
            return Err(InjectionError::new(format!("{field}.httpGet.scheme"), problem));
        }
        if get.host.as_ref().is_some_and(|host| !host.is_empty()) {
            // A port of another host with the same number.
            return Ok(());
        }
        let path = get.path.as_deref().unwrap_or_default();
        let slash = if path.starts_with('/') { "" } else { "/" };
        get.path = Some(format!("{question}?path={slash}{}", encoded(path)));
        get.port = IntOrString::Int(i32::from(own.admin));
    }
    if probe.tcp_socket.as_ref().is_some_and(|socket| is_models(&socket.port)) {
        probe.tcp_socket = None;
        probe.http_get = Some(HTTPGetAction {
            path: Some(question.to_owned()),
            port: IntOrString::Int(i32::from(own.admin)),
            ..HTTPGetAction::default()
        });
    }
    Ok(())
}

/// Encodes a path as the value of a query parameter.
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
