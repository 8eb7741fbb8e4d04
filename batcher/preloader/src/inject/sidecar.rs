//! The sidecar's container, and the annotations by which a pod annotations it to be.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvVar, HTTPGetAction, LocalObjectReference, PodSpec, Probe,
    ResourceRequirements, SeccompProfile, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sluice_config::names::pod as names;

use super::annotations::Annotations;
use super::port::{ModelPort, OwnPorts};
use super::{InjectionError, Sidecar};

/// Variable that holds the token of `/drain`; it distinguishes our sidecar from another container of its name.
const TOKEN_VARIABLE: &str = "SLUICE_BATCHER_DRAIN_TOKEN";
/// User ID of the sidecar: any but root, because the image has no user database.
const USER: i64 = 65532;

/// Returns whether the pod has its sidecar.
///
/// # Errors
/// Another container has the sidecar's name.
pub(super) fn is_there(spec: &PodSpec) -> Result<bool, InjectionError> {
    let taken = |list: &str, index: usize| {
        let problem = format!("{:?} is the sidecar's name; choose another", names::SIDECAR);
        InjectionError::new(format!("spec.{list}[{index}].name"), problem)
    };
    if let Some(index) = spec.containers.iter().position(|container| container.name == names::SIDECAR) {
        return Err(taken("containers", index));
    }
    let mut init = spec.init_containers.iter().flatten().enumerate();
    match init.find(|(_, container)| container.name == names::SIDECAR) {
        None => Ok(false),
        Some((_, container)) if container.env.iter().flatten().any(|env| env.name == TOKEN_VARIABLE) => {
            Ok(true)
        }
        Some((index, _)) => Err(taken("initContainers", index)),
    }
}

/// Adds the Secret to those that the pod names. Those of its ServiceAccount are among them by now: the API server copies
/// them before it calls any webhook, and only into pods that name none themselves.
pub(super) fn add_pull_secret(spec: &mut PodSpec, secret: &str) {
    let secrets = spec.image_pull_secrets.get_or_insert_default();
    if secrets.iter().all(|named| named.name != secret) {
        secrets.push(LocalObjectReference { name: secret.to_owned() });
    }
}

/// Returns the sidecar's container.
pub(super) fn container(
    settings: &Sidecar,
    annotations: &Annotations,
    found: &ModelPort,
    own: OwnPorts,
    resources: ResourceRequirements,
    token: &str,
) -> Container {
    let port = |name: &str, number: u16| ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(number),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    Container {
        name: names::SIDECAR.to_owned(),
        image: Some(settings.image.clone()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        // A native sidecar: it starts before the model and ends after it.
        restart_policy: Some("Always".to_owned()),
        args: Some(arguments(settings, annotations, found, own)),
        env: Some(vec![EnvVar {
            name: TOKEN_VARIABLE.to_owned(),
            value: Some(token.to_owned()),
            value_from: None,
        }]),
        ports: Some(vec![port(&found.name, own.front), port(names::ADMIN_PORT_NAME, own.admin)]),
        // "The process is up", never "the model is warm": the model starts only after this.
        startup_probe: Some(probe(own, "/livez", 1, 120, 2)),
        // "The model is warm": one missed answer takes the pod out of its Services.
        readiness_probe: Some(probe(own, "/readyz", 1, 1, 2)),
        liveness_probe: Some(probe(own, "/livez", 10, 6, 5)),
        resources: Some(resources),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

fn arguments(settings: &Sidecar, annotations: &Annotations, found: &ModelPort, own: OwnPorts) -> Vec<String> {
    let mut flags = BTreeMap::from([
        ("--upstream", format!("127.0.0.1:{}", found.number)),
        ("--listen", format!("0.0.0.0:{}", own.front)),
        ("--admin-listen", format!("0.0.0.0:{}", own.admin)),
        ("--drain-deadline-ms", settings.drain_deadline_ms.to_string()),
        ("--propagation-ms", settings.propagation_ms.to_string()),
        ("--log-format", "json".to_owned()),
    ]);
    if let Some(models) = &annotations.models {
        flags.insert("--models", models.clone());
    }
    if let Some(objective_ms) = annotations.objective_ms {
        flags.insert("--objective-ms", objective_ms.to_string());
    }
    if let Some(rows) = annotations.max_batch_rows {
        flags.insert("--max-batch-rows", rows.to_string());
    }
    if let Some(batching) = &annotations.batching {
        flags.insert("--batching", batching.clone());
    }
    flags.into_iter().map(|(flag, value)| format!("{flag}={value}")).collect()
}

fn probe(
    own: OwnPorts,
    path: &str,
    period_seconds: i32,
    failure_threshold: i32,
    timeout_seconds: i32,
) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(i32::from(own.admin)),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        failure_threshold: Some(failure_threshold),
        timeout_seconds: Some(timeout_seconds),
        ..Probe::default()
    }
}
