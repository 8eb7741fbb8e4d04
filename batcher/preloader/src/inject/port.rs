//! The model's port, and the sidecar's own ports.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Pod, PodSpec, Service};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sluice_config::names::pod as names;

use super::annotations::Annotations;
use super::{InjectionError, listening};

/// The port that is moved to the sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ModelPort {
    /// Index of the model's container.
    pub(super) container: usize,
    /// Index of the port in it.
    pub(super) port: usize,
    /// Name of the port.
    pub(super) name: String,
    /// Number of the port.
    pub(super) number: i32,
}

/// Returns the one port of that name.
pub(super) fn find(spec: &PodSpec, name: &str) -> Result<ModelPort, InjectionError> {
    let mut found: Option<ModelPort> = None;
    for (list, container, definition) in listening(spec) {
        for (port, defined) in definition.ports.iter().flatten().enumerate() {
            if defined.name.as_deref() != Some(name) {
                continue;
            }
            let field = format!("spec.{list}[{container}].ports[{port}]");
            if list == "initContainers" || found.is_some() {
                let first = match &found {
                    Some(first) => {
                        format!("spec.containers[{}] has a port of that name too", first.container)
                    }
                    None => "only a container of the pod itself can be the model".to_owned(),
                };
                let problem = format!(
                    "the port {name:?} is ambiguous: {first}; give the model's port a name of its own, and say it \
                     by the annotation {}",
                    names::PORT_ANNOTATION
                );
                return Err(InjectionError::new(format!("{field}.name"), problem));
            }
            if let Some(protocol) = defined.protocol.as_deref().filter(|protocol| *protocol != "TCP") {
                let problem = format!("is {protocol}, but a model's requests come over TCP");
                return Err(InjectionError::new(format!("{field}.protocol"), problem));
            }
            if defined.host_port.is_some_and(|port| port != 0) {
                let problem = "would lead past the sidecar to the model; remove it";
                return Err(InjectionError::new(format!("{field}.hostPort"), problem));
            }
            found =
                Some(ModelPort { container, port, name: name.to_owned(), number: defined.container_port });
        }
    }
    found.ok_or_else(|| {
        let problem = format!(
            "no container has a port named {name:?}; name the port on which the model serves, or say its name by \
             the annotation {}",
            names::PORT_ANNOTATION
        );
        InjectionError::new("spec.containers", problem)
    })
}

/// The ports on which the sidecar listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OwnPorts {
    pub(super) front: u16,
    pub(super) admin: u16,
}

/// Returns the sidecar's ports: those that the pod's annotations name, else the usual ones, else the first two free ones.
pub(super) fn own(spec: &PodSpec, annotations: &Annotations) -> Result<OwnPorts, InjectionError> {
    let mut taken = BTreeSet::new();
    for (list, container, definition) in listening(spec) {
        for (port, defined) in definition.ports.iter().flatten().enumerate() {
            taken.extend(u16::try_from(defined.container_port));
            if defined.name.as_deref() == Some(names::ADMIN_PORT_NAME) {
                let field = format!("spec.{list}[{container}].ports[{port}].name");
                return Err(InjectionError::new(
                    field,
                    "is the name of the sidecar's admin port; choose another",
                ));
            }
        }
    }
    for (annotation, wished) in [
        (names::FRONT_PORT_ANNOTATION, annotations.front_port),
        (names::ADMIN_PORT_ANNOTATION, annotations.admin_port),
    ] {
        if let Some(port) = wished.filter(|port| taken.contains(port)) {
            let problem = format!(
                "{port} is a port of one of the pod's containers; choose another, or leave the annotation out: then \
                 the sidecar finds a free one"
            );
            return Err(InjectionError::new(format!("metadata.annotations[{annotation}]"), problem));
        }
    }
    if let (Some(front), Some(admin)) = (annotations.front_port, annotations.admin_port)
        && front == admin
    {
        let field = format!("metadata.annotations[{}]", names::ADMIN_PORT_ANNOTATION);
        return Err(InjectionError::new(
            field,
            format!("{admin} is the sidecar's front port already; choose another"),
        ));
    }
    let wished: Vec<u16> = annotations.front_port.into_iter().chain(annotations.admin_port).collect();
    let free = |port: &u16| !taken.contains(port) && !wished.contains(port);
    let usual = (names::FRONT_PORT, names::ADMIN_PORT);
    // Both move together: a model server on 8080 often has 8081 and 8082 too, and does not say so in its template.
    let usual_is_free = ![usual.0, usual.1].iter().any(|port| taken.contains(port));
    let (front, admin) = if usual_is_free { usual } else { names::OTHER_PORTS };
    let next = |from: u16, other: Option<u16>| {
        (from..=u16::MAX).find(|port| free(port) && Some(*port) != other).unwrap_or(from)
    };
    let front = annotations.front_port.unwrap_or_else(|| next(front, None));
    let admin = annotations.admin_port.unwrap_or_else(|| next(admin, Some(front)));
    Ok(OwnPorts { front, admin })
}

/// Returns a warning about a Service that sends to the model's port number, and so bypasses the sidecar; `None` for others.
pub fn passes_by(service: &Service, pod: &Pod) -> Option<String> {
    let spec = service.spec.as_ref().filter(|_| selects(service, pod))?;
    let port_name = Annotations::read(pod).ok()?.port_name;
    let model = find(pod.spec.as_ref()?, &port_name).ok()?;
    let position = spec.ports.iter().flatten().position(|port| match &port.target_port {
        Some(IntOrString::Int(number)) => *number == model.number,
        Some(IntOrString::String(_)) => false,
        None => port.port == model.number,
    })?;
    Some(format!(
        "Service {}: spec.ports[{position}].targetPort is {}, the model's own port; write {port_name:?}, or requests \
         pass the sidecar by",
        service.metadata.name.as_deref().unwrap_or_default(),
        model.number,
    ))
}

/// Returns whether the Service selects the pod.
pub(super) fn selects(service: &Service, pod: &Pod) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let (Some(selector), Some(labels)) = (selector, &pod.metadata.labels) else { return false };
    !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}
