//! What is added to an opted-in pod, and which pods are refused: pure functions from a pod to a pod.
//!
//! ```text
//!  template:   [init …] → model (port http 9000)
//!  injected:   [init …] → sluice-batcher (native sidecar; ports http 8080, sluice-admin 8081) → model (9000, preStop)
//! ```
//!
//! The gate and the sidecar are added by two webhooks that may fail in different ways, so they are two functions
//! here too, and neither relies on the other.

mod annotations;
mod gate;
mod hints;
mod hook;
mod model;
mod port;
pub mod resources;
mod sidecar;

use json_patch::Patch;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use sluice_config::names::pod as names;

use annotations::Annotations;
pub(crate) use annotations::MOST_DEADLINE_SECONDS;
pub use gate::{ClaimedClasses, is_ours, with_gate};
pub use hints::{hints, is_left_alone, second_ports};
pub use port::passes_by;
use resources::Resources;

/// Grace period of a pod that names none.
const DEFAULT_GRACE_SECONDS: i64 = 30;

/// Settings of the sidecars.
#[derive(Debug, Clone, PartialEq)]
pub struct Sidecar {
    /// Image of the sidecar.
    pub image: String,
    /// Name of the Secret to pull it with, in the pod's own namespace; `None` if the registry is open.
    pub pull_secret: Option<String>,
    /// Resources where the pod has no annotations for them.
    pub resources: Resources,
    /// Time in milliseconds that requests have to finish when the pod ends.
    pub drain_deadline_ms: u64,
    /// Time in milliseconds without a request after which the sidecar stops serving, when the pod ends.
    pub propagation_ms: u64,
}

impl Sidecar {
    /// Returns the longest time of `/drain` in milliseconds: requests stop coming, then all are answered.
    fn drain_ms(&self) -> u64 {
        self.propagation_ms.saturating_add(self.drain_deadline_ms)
    }
}

/// Why a pod cannot have its sidecar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InjectionError {
    /// Path of the field in the pod.
    pub field: String,
    /// What is wrong with the field, and what would be right.
    pub problem: String,
}

impl InjectionError {
    fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// Returns whether the pod opts in to injection.
pub fn opts_in(pod: &Pod) -> bool {
    let labels = pod.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(names::INJECT_LABEL))
        .is_some_and(|value| value == names::INJECT_ENABLED)
}

/// Returns the pod with its sidecar; `None` if it has one already. `token` guards the sidecar's `/drain`.
///
/// # Errors
/// Names the field that is at fault.
pub fn with_sidecar(pod: &Pod, settings: &Sidecar, token: &str) -> Result<Option<Pod>, InjectionError> {
    let Some(spec) = &pod.spec else { return Err(InjectionError::new("spec", "is missing")) };
    if sidecar::is_there(spec)? {
        return Ok(None);
    }
    if spec.host_network == Some(true) {
        let problem = "the sidecar's ports would be the node's; opt in only pods with a network of their own";
        return Err(InjectionError::new("spec.hostNetwork", problem));
    }
    let annotations = Annotations::read(pod)?;
    let found = port::find(spec, &annotations.port_name)?;
    let own = port::own(spec, &annotations)?;
    let resources = resources::of(pod, spec, &settings.resources)?;
    let mut injected = pod.clone();
    let spec = injected.spec.get_or_insert_default();
    let grace = spec.termination_grace_period_seconds.unwrap_or(DEFAULT_GRACE_SECONDS);
    let drain_seconds = i64::try_from(settings.drain_ms().div_ceil(1000)).unwrap_or(i64::MAX);
    let hook = model::prepare(spec, &found, own, settings.drain_ms(), token)?;
    // The template's own period is for what comes after the drain: the template's own hook, and the end.
    let seconds = grace.saturating_add(drain_seconds).saturating_add(hook.sleep_seconds());
    spec.termination_grace_period_seconds = Some(seconds);
    if let Some(secret) = &settings.pull_secret {
        sidecar::add_pull_secret(spec, secret);
    }
    let mut container = sidecar::container(settings, &annotations, &found, own, resources, token);
    container.args.get_or_insert_default().extend(hook.arguments(grace));
    spec.init_containers.get_or_insert_default().push(container);
    Ok(Some(injected))
}

/// Returns the JSON patch from `before` to `after`.
///
/// # Errors
/// One of the pods cannot be written as JSON.
pub fn patch(before: &Pod, after: &Pod) -> Result<Patch, serde_json::Error> {
    // Both are read from the same type: a field that the type does not know is in neither, and stays as it is.
    Ok(json_patch::diff(&serde_json::to_value(before)?, &serde_json::to_value(after)?))
}

/// Returns all containers that may listen on ports, each with its field's name and index.
fn listening(
    spec: &PodSpec,
) -> impl Iterator<Item = (&'static str, usize, &k8s_openapi::api::core::v1::Container)> {
    let sidecars = spec.init_containers.iter().flatten().enumerate();
    let sidecars = sidecars.filter(|(_, container)| container.restart_policy.as_deref() == Some("Always"));
    let containers = spec.containers.iter().enumerate();
    containers
        .map(|(index, container)| ("containers", index, container))
        .chain(sidecars.map(|(index, container)| ("initContainers", index, container)))
}

#[cfg(test)]
mod tests;
