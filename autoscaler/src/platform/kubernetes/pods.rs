//! Reads the state of a target's replicas from its pods (pure).

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStatus, Pod, PodCondition, PodSpec, PodStatus,
};
use sluice_config::names::pod as names;

use super::batchers;
use crate::platform::{Batcher, Replicas};

/// Returns the replicas of a target that asks for `asked` and has these pods.
pub(super) fn replicas(
    asked: u32,
    pods: &[&Pod],
    startup_ms: Option<u64>,
    batchers: Vec<Batcher>,
) -> Replicas {
    let live = pods.iter().filter(|pod| is_live(pod)).count();
    let ready = pods.iter().filter(|pod| is_live(pod));
    let ready = u32::try_from(ready.filter(|pod| is_ready(pod)).count()).unwrap_or(u32::MAX);
    // During a rolling update there are more pods than were asked for, and they are ready too.
    let ready = ready.min(asked);
    let terminating = pods.iter().filter(|pod| is_terminating(pod) && !is_over(pod)).count();
    Replicas {
        asked,
        ready,
        starting: asked - ready,
        absent: asked.saturating_sub(u32::try_from(live).unwrap_or(u32::MAX)),
        terminating: u32::try_from(terminating).unwrap_or(u32::MAX),
        startup_ms,
        batchers,
        ..Replicas::default()
    }
}

/// Returns whether a pod is neither over nor terminating.
pub(super) fn is_live(pod: &Pod) -> bool {
    !is_terminating(pod) && !is_over(pod)
}

/// Returns whether a pod takes traffic, as Services see it.
pub(super) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some()
}

/// Returns since when a condition of the pod has been true, milliseconds since 1970; `None` where it is not true.
pub(super) fn condition(pod: &Pod, name: &str) -> Option<u64> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|condition| condition.type_ == name && condition.status == "True")?;
    Some(found.last_transition_time.as_ref().map_or(0, |time| millis(time.0)))
}

/// Returns a condition of the pod, whether it is true or not.
pub(super) fn any_condition<'a>(pod: &'a Pod, name: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == name)
}

/// Returns the value of a label.
pub(super) fn label<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    pod.metadata.labels.as_ref()?.get(name).map(String::as_str)
}

/// Returns the names of the pod's scheduling gates.
pub(super) fn gates(pod: &Pod) -> impl Iterator<Item = &str> {
    let gates = pod.spec.iter().flat_map(|spec| spec.scheduling_gates.iter().flatten());
    gates.map(|gate| gate.name.as_str())
}

/// Converts a timestamp to milliseconds since 1970; 0 for earlier ones.
pub(super) fn millis(time: jiff::Timestamp) -> u64 {
    u64::try_from(time.as_millisecond()).unwrap_or(0)
}

/// Returns the name of a pod.
pub(super) fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Returns whether a pod has ended. Its address may be another pod's by now.
pub(super) fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Drops everything of a pod that is not read here, because there are many pods.
pub(super) fn trim(pod: &mut Pod) {
    pod.metadata.annotations = None;
    if let Some(spec) = &mut pod.spec {
        let bare = |c: Container| Container { name: c.name, ports: c.ports, ..Container::default() };
        let own = std::mem::take(&mut spec.containers);
        let kept = PodSpec {
            containers: own.into_iter().filter(batchers::is_gateway).map(bare).collect(),
            init_containers: spec.init_containers.take().map(|all| {
                all.into_iter().filter(|container| container.name == names::SIDECAR).map(bare).collect()
            }),
            resource_claims: spec.resource_claims.take(),
            scheduling_gates: spec.scheduling_gates.take(),
            readiness_gates: spec.readiness_gates.take(),
            node_name: spec.node_name.take(),
            tolerations: spec.tolerations.take(),
            node_selector: spec.node_selector.take(),
            affinity: spec.affinity.take(),
            ..PodSpec::default()
        };
        *spec = kept;
    }
    if let Some(status) = &mut pod.status {
        let kept = PodStatus {
            phase: status.phase.take(),
            pod_ip: status.pod_ip.take(),
            conditions: status.conditions.take(),
            init_container_statuses: status.init_container_statuses.take().map(how_they_run),
            container_statuses: status.container_statuses.take().map(how_they_run),
            ..PodStatus::default()
        };
        *status = kept;
    }
}

/// Keeps of each container whether it runs, since when, and why not.
fn how_they_run(all: Vec<ContainerStatus>) -> Vec<ContainerStatus> {
    let ended = |state: Option<ContainerState>| {
        state.map(|state| ContainerState { terminated: state.terminated, ..ContainerState::default() })
    };
    let bare = |status: ContainerStatus| ContainerStatus {
        name: status.name,
        ready: status.ready,
        restart_count: status.restart_count,
        state: status.state,
        last_state: ended(status.last_state),
        ..ContainerStatus::default()
    };
    all.into_iter().map(bare).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A pod with a sidecar, changed by `patch` (RFC 7396).
    pub(crate) fn pod(name: &str, patch: Value) -> Pod {
        let mut value = json!({
            "metadata": {"name": name, "namespace": "ns", "annotations": {"a": "b"}},
            "spec": {
                "containers": [{"name": "model"}],
                "initContainers": [
                    {"name": "setup"},
                    {"name": "sluice-batcher", "ports": [
                        {"name": "http", "containerPort": 8080},
                        {"name": "sluice-admin", "containerPort": 8081},
                    ]},
                ],
            },
            "status": {
                "phase": "Running", "podIP": "10.0.0.7",
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:09Z"}],
                "initContainerStatuses": [{
                    "name": "sluice-batcher", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                    "state": {"running": {"startedAt": "2026-01-01T00:00:01Z"}},
                }],
            },
        });
        json_patch::merge(&mut value, &patch);
        let mut pod = serde_json::from_value(value).unwrap();
        trim(&mut pod);
        pod
    }

    fn of(asked: u32, pods: &[Pod]) -> Replicas {
        replicas(asked, &pods.iter().collect::<Vec<_>>(), None, Vec::new())
    }

    pub(crate) const NOT_READY: &str =
        r#"{"status": {"conditions": [{"type": "Ready", "status": "False"}]}}"#;
    pub(crate) const TERMINATING: &str = r#"{"metadata": {"deletionTimestamp": "2026-01-01T00:01:00Z"}}"#;

    pub(crate) fn parsed(patch: &str) -> Value {
        serde_json::from_str(patch).unwrap()
    }

    #[test]
    fn pods_are_ready_starting_or_on_their_way_out() {
        let pods = [
            pod("a", json!({})),
            pod("b", parsed(NOT_READY)),
            pod("c", parsed(TERMINATING)),
            pod("d", json!({"status": {"phase": "Failed"}})),
        ];
        let replicas = of(3, &pods);
        assert_eq!((replicas.asked, replicas.ready, replicas.starting, replicas.terminating), (3, 1, 2, 1));
    }

    #[test]
    fn a_rolling_update_has_no_more_ready_replicas_than_were_asked_for() {
        let pods = ["a", "b", "c"].map(|name| pod(name, json!({})));
        let replicas = of(2, &pods);
        assert_eq!((replicas.ready, replicas.starting), (2, 0));
    }

    #[test]
    fn a_pod_is_trimmed_to_what_is_read() {
        let pod = pod("a", json!({}));
        assert_eq!(pod.metadata.annotations, None);
        assert!(pod.spec.unwrap().containers.is_empty());
    }
}
