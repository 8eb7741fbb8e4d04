//! Which port is the model's, and whether the sidecar's own are free.

use k8s_openapi::api::core::v1::{Pod, PodSpec, Service};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sluice_config::names::pod as names;

use super::sidecar::Wishes;
use super::{Refusal, listening};

/// The port that is moved to the sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ModelPort {
    /// Index of the model's container.
    pub(super) container: usize,
    /// Index of the port in it.
    pub(super) port: usize,
    /// Its name.
    pub(super) name: String,
    /// Its number.
    pub(super) number: i32,
}

/// The one port of that name.
pub(super) fn find(spec: &PodSpec, name: &str) -> Result<ModelPort, Refusal> {
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
                return Err(Refusal::new(format!("{field}.name"), problem));
            }
            if let Some(protocol) = defined.protocol.as_deref().filter(|protocol| *protocol != "TCP") {
                let problem = format!("is {protocol}, but a model's requests come over TCP");
                return Err(Refusal::new(format!("{field}.protocol"), problem));
            }
            if defined.host_port.is_some_and(|port| port != 0) {
                let problem = "would lead past the sidecar to the model; remove it";
                return Err(Refusal::new(format!("{field}.hostPort"), problem));
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
        Refusal::new("spec.containers", problem)
    })
}

/// Whether the sidecar can listen on its ports.
pub(super) fn check_free(spec: &PodSpec) -> Result<(), Refusal> {
    for (list, container, definition) in listening(spec) {
        for (port, defined) in definition.ports.iter().flatten().enumerate() {
            let taken = [names::FRONT_PORT, names::ADMIN_PORT];
            if taken.map(i32::from).contains(&defined.container_port) {
                let field = format!("spec.{list}[{container}].ports[{port}].containerPort");
                let problem = format!(
                    "{} is the sidecar's ({} serves, {} is its admin port); let {:?} listen on another port",
                    defined.container_port,
                    names::FRONT_PORT,
                    names::ADMIN_PORT,
                    definition.name
                );
                return Err(Refusal::new(field, problem));
            }
            if defined.name.as_deref() == Some(names::ADMIN_PORT_NAME) {
                let field = format!("spec.{list}[{container}].ports[{port}].name");
                return Err(Refusal::new(field, "is the name of the sidecar's admin port; choose another"));
            }
        }
    }
    Ok(())
}

/// What is wrong with a Service that sends to the pod's model by number, and so past the sidecar.
pub fn passes_by(service: &Service, pod: &Pod) -> Option<String> {
    let spec = service.spec.as_ref()?;
    let selector = spec.selector.as_ref().filter(|selector| !selector.is_empty())?;
    let labels = pod.metadata.labels.as_ref()?;
    if !selector.iter().all(|(key, value)| labels.get(key) == Some(value)) {
        return None;
    }
    let port_name = Wishes::read(pod).ok()?.port_name;
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
