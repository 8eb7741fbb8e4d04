//! The sidecar's container, and the annotations by which a pod wishes it to be.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvVar, HTTPGetAction, LocalObjectReference, Pod, PodSpec, Probe,
    ResourceRequirements, SeccompProfile, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sluice_config::names::pod as names;
use sluice_process::settings::meant;

use super::port::{ModelPort, OwnPorts};
use super::{Refusal, Sidecar};

/// Name of the moved port where the pod says nothing.
const DEFAULT_PORT: &str = "http";
/// Variable that holds the token of `/drain`; by it a sidecar of ours is told from another container of its name.
const TOKEN_VARIABLE: &str = "SLUICE_BATCHER_DRAIN_TOKEN";
/// Longest deadline of a gate: more is milliseconds that were meant for seconds.
pub(crate) const MOST_DEADLINE_SECONDS: u64 = 86_400;
/// Any user but root; the image has no user database.
const USER: i64 = 65532;

/// What the pod's annotations say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wishes {
    pub(super) port_name: String,
    pub(super) front_port: Option<u16>,
    pub(super) admin_port: Option<u16>,
    models: Option<String>,
    objective_ms: Option<u64>,
    max_batch_rows: Option<u64>,
    batching: Option<String>,
}

impl Wishes {
    pub(super) fn read(pod: &Pod) -> Result<Self, Refusal> {
        let annotations = pod.metadata.annotations.as_ref();
        let text = |name: &str| annotations.and_then(|annotations| annotations.get(name)).map(String::as_str);
        let refused =
            |name: &str, problem: String| Refusal::new(format!("metadata.annotations[{name}]"), problem);
        let positive = |name: &'static str| match text(name) {
            None => Ok(None),
            Some(text) => match text.parse::<u64>() {
                // The smallest type that any of them becomes.
                Ok(number) if (1..=u64::from(u32::MAX)).contains(&number) => Ok(Some(number)),
                _ => {
                    let meant = meant(name, text).map_or_else(String::new, |meant| format!("; {meant}"));
                    let problem =
                        format!("{text:?} is not a whole number above 0 (at most {}){meant}", u32::MAX);
                    Err(refused(name, problem))
                }
            },
        };
        let own_port = |name: &'static str| match text(name).map(str::parse::<u16>) {
            None => Ok(None),
            Some(Ok(port @ 1024..)) => Ok(Some(port)),
            Some(_) => {
                let problem = format!(
                    "{:?} is not a port of the sidecar's, 1024 to 65535 (it runs as a user without privileges)",
                    text(name).unwrap_or_default()
                );
                Err(refused(name, problem))
            }
        };
        let port_name = text(names::PORT_ANNOTATION).unwrap_or(DEFAULT_PORT);
        // A port's name has a letter, so this is a number, or nothing that could be a name.
        if !port_name.contains(|letter: char| letter.is_ascii_lowercase()) {
            let problem = format!(
                "{port_name:?} is not the name of a port; the sidecar takes over a port by its name, because \
                 Services that send to a number would pass it by"
            );
            return Err(refused(names::PORT_ANNOTATION, problem));
        }
        let models = text(names::MODELS_ANNOTATION).map(str::to_owned);
        if let Some(models) = &models
            && models.split(',').any(|model| model.trim().is_empty())
        {
            let problem = format!("{models:?} is not a list of model names separated by commas");
            return Err(refused(names::MODELS_ANNOTATION, problem));
        }
        let batching = text(names::BATCHING_ANNOTATION);
        if let Some(value) = batching.filter(|value| !names::BATCHING_VALUES.contains(value)) {
            let problem = format!("{value:?} is none of {}", names::BATCHING_VALUES.join(", "));
            return Err(refused(names::BATCHING_ANNOTATION, problem));
        }
        if let Some(seconds) =
            positive(names::GATE_DEADLINE_ANNOTATION)?.filter(|s| *s > MOST_DEADLINE_SECONDS)
        {
            let problem = format!("{seconds} seconds are more than a day ({MOST_DEADLINE_SECONDS})");
            return Err(refused(names::GATE_DEADLINE_ANNOTATION, problem));
        }
        Ok(Self {
            port_name: port_name.to_owned(),
            front_port: own_port(names::FRONT_PORT_ANNOTATION)?,
            admin_port: own_port(names::ADMIN_PORT_ANNOTATION)?,
            models: models.map(|models| models.split(',').map(str::trim).collect::<Vec<_>>().join(",")),
            objective_ms: positive(names::OBJECTIVE_ANNOTATION)?,
            max_batch_rows: positive(names::MAX_BATCH_ROWS_ANNOTATION)?,
            batching: batching.map(str::to_owned),
        })
    }
}

/// Whether the pod has its sidecar.
pub(super) fn is_there(spec: &PodSpec) -> Result<bool, Refusal> {
    let taken = |list: &str, index: usize| {
        let problem = format!("{:?} is the sidecar's name; choose another", names::SIDECAR);
        Refusal::new(format!("spec.{list}[{index}].name"), problem)
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

/// Names the Secret beside those that the pod has. What its ServiceAccount names is among them by now: the API server copies
/// it before any webhook is asked, and only into pods that name none themselves.
pub(super) fn add_pull_secret(spec: &mut PodSpec, secret: &str) {
    let secrets = spec.image_pull_secrets.get_or_insert_default();
    if secrets.iter().all(|named| named.name != secret) {
        secrets.push(LocalObjectReference { name: secret.to_owned() });
    }
}

/// The sidecar.
pub(super) fn container(
    settings: &Sidecar,
    wishes: &Wishes,
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
        args: Some(arguments(settings, wishes, found, own)),
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

fn arguments(settings: &Sidecar, wishes: &Wishes, found: &ModelPort, own: OwnPorts) -> Vec<String> {
    let mut flags = BTreeMap::from([
        ("--upstream", format!("127.0.0.1:{}", found.number)),
        ("--listen", format!("0.0.0.0:{}", own.front)),
        ("--admin-listen", format!("0.0.0.0:{}", own.admin)),
        ("--drain-deadline-ms", settings.drain_deadline_ms.to_string()),
        ("--propagation-ms", settings.propagation_ms.to_string()),
        ("--log-format", "json".to_owned()),
    ]);
    if let Some(models) = &wishes.models {
        flags.insert("--models", models.clone());
    }
    if let Some(objective_ms) = wishes.objective_ms {
        flags.insert("--objective-ms", objective_ms.to_string());
    }
    if let Some(rows) = wishes.max_batch_rows {
        flags.insert("--max-batch-rows", rows.to_string());
    }
    if let Some(batching) = &wishes.batching {
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
