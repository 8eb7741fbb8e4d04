//! Kubernetes Events about gated pods.

use k8s_openapi::api::core::v1::ObjectReference;
use sluice_process::events::KubernetesEvent;

use crate::gates::{PodRef, Why};

/// What happened to the gate of a pod, with the reason for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GateEvent {
    /// The gate stays.
    Waits(String),
    /// The gate was removed.
    Lifted(Why, String),
    /// The gate should have been removed, but the API server refused.
    Refused(String),
}

/// Returns the Kubernetes Event of a gate's event.
pub(super) fn published(event: GateEvent) -> KubernetesEvent {
    let (is_warning, reason, note) = match event {
        GateEvent::Waits(because) => (false, "GateWaits", format!("not placed yet: {because}")),
        GateEvent::Lifted(Why::Deadline, because) => {
            (true, "GateFailedOpen", format!("lifted without a slice of its own: {because}"))
        }
        GateEvent::Lifted(_, because) => (false, "GateLifted", because),
        GateEvent::Refused(because) => {
            (true, "GateLiftRefused", format!("the gate stays; tried again soon: {because}"))
        }
    };
    KubernetesEvent { is_warning, reason: reason.to_owned(), action: "Lift".to_owned(), note }
}

/// Returns the reference by which an Event names its pod.
pub(super) fn reference(pod: &PodRef) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(pod.namespace.clone()),
        name: Some(pod.name.clone()),
        uid: Some(pod.uid.clone()),
        ..ObjectReference::default()
    }
}
