//! Finds why a target's pods are not ready (pure).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use sluice_config::names::pod as names;
use sluice_scaling_policy::{Cause, Obstacle};

use super::pods;
use super::workload::Workload;

/// Time after which a pod that the scheduler refuses counts as unschedulable, milliseconds. Before that it may be placed at
/// the next attempt.
const UNSCHEDULABLE_AFTER_MS: u64 = 30_000;
/// Maximum length of a message of the cluster, characters.
const MAX_DETAIL: usize = 300;
/// Reasons of waiting containers that are part of every start.
const USUAL_WAITS: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// Returns what keeps replicas from being ready: one entry for each cause, failures first.
pub(super) fn obstacles(asked: u32, pods: &[&Pod], workload: &Workload, now_ms: u64) -> Vec<Obstacle> {
    let mut found: BTreeMap<Cause, Obstacle> = BTreeMap::new();
    let live: Vec<&&Pod> = pods.iter().filter(|pod| pods::is_live(pod)).collect();
    for pod in live.iter().filter(|pod| !pods::is_ready(pod)) {
        let one = obstacle(pod, now_ms);
        found
            .entry(one.cause)
            .and_modify(|first| {
                let replicas = first.replicas + 1;
                if (&one.since, &one.pod) < (&first.since, &first.pod) {
                    *first = one.clone();
                }
                first.replicas = replicas;
            })
            .or_insert(one);
    }
    let absent = asked.saturating_sub(u32::try_from(live.len()).unwrap_or(u32::MAX));
    match &workload.failure {
        Some((detail, since)) => {
            // A rollout's next pod may be the one that cannot be created.
            let mut one = bare(Cause::FailedCreate, absent.max(1));
            one.detail.clone_from(detail);
            one.since.clone_from(since);
            found.insert(one.cause, one);
        }
        None if absent > 0 && !found.contains_key(&Cause::Starting) => {
            found.insert(Cause::Starting, bare(Cause::Starting, absent));
        }
        None => {}
    }
    found.into_values().collect()
}

fn bare(cause: Cause, replicas: u32) -> Obstacle {
    let none = String::new;
    Obstacle { cause, replicas, pod: none(), container: none(), detail: none(), since: none() }
}

/// Returns why one pod is not ready.
pub(super) fn obstacle(pod: &Pod, now_ms: u64) -> Obstacle {
    let mut one = bare(Cause::Starting, 1);
    pods::name(pod).clone_into(&mut one.pod);
    let made = pod.metadata.creation_timestamp.as_ref().map(|at| at.0);
    let not_ready = pods::any_condition(pod, "Ready").and_then(|found| found.last_transition_time.as_ref());
    one.since = not_ready.map(|at| at.0).or(made).map_or_else(String::new, |at| at.to_string());
    let foreign = pods::gates(pod).find(|gate| !is_ours(gate));
    if let Some(gate) = foreign {
        one.cause = Cause::GatedByOthers;
        one.detail = plain(gate);
        return one;
    }
    if pods::gates(pod).next().is_some() {
        one.cause = Cause::SchedulingGated;
        return one;
    }
    if let Some((detail, since)) = unschedulable(pod, now_ms) {
        return Obstacle { cause: Cause::Unschedulable, detail, since, ..one };
    }
    if let Some((cause, container, detail)) = statuses(pod).filter_map(failing).min() {
        return Obstacle { cause, container, detail, ..one };
    }
    if is_lost(pod) {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        let detail = plain(node.unwrap_or_default());
        return Obstacle { cause: Cause::NodeNotReady, detail, ..one };
    }
    let containers = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref());
    let all_run = containers.is_some_and(|all| !all.is_empty() && all.iter().all(|status| status.ready));
    if all_run {
        one.cause = Cause::PodNotReady;
        let ready = pods::any_condition(pod, "Ready");
        one.detail = plain(ready.and_then(|found| found.message.as_deref()).unwrap_or_default());
    }
    one
}

/// Returns whether a scheduling gate is Sluice's. On a pod of a scaled target the bare name is too.
pub(super) fn is_ours(gate: &str) -> bool {
    gate == names::GATE || gate == names::GATE_ALIAS
}

/// Returns whether the pod is not ready because its node is lost. Otherwise the kubelet itself would report a container or
/// a readiness gate as not ready.
fn is_lost(pod: &Pod) -> bool {
    let has_gates =
        pod.spec.as_ref().is_some_and(|spec| spec.readiness_gates.iter().flatten().next().is_some());
    !has_gates && pods::condition(pod, "ContainersReady").is_some()
}

/// Returns the scheduler's message, and since when it holds.
fn unschedulable(pod: &Pod, now_ms: u64) -> Option<(String, String)> {
    let found = pods::any_condition(pod, "PodScheduled")?;
    let since = found.last_transition_time.as_ref()?.0;
    let lasts = now_ms.saturating_sub(pods::millis(since)) >= UNSCHEDULABLE_AFTER_MS;
    let is_refused = found.status == "False" && found.reason.as_deref() == Some("Unschedulable");
    (is_refused && lasts).then(|| (plain(found.message.as_deref().unwrap_or_default()), since.to_string()))
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_deref()).unwrap_or_default();
    init.iter().chain(status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default())
}

/// Returns why a container cannot run. One that has failed more than once and is not ready counts as crash-looping even
/// while it runs.
fn failing(status: &ContainerStatus) -> Option<(Cause, String, String)> {
    let state = status.state.as_ref();
    let waiting = state.and_then(|state| state.waiting.as_ref());
    let reason = waiting.and_then(|waiting| waiting.reason.as_deref()).unwrap_or_default();
    let message = waiting.and_then(|waiting| waiting.message.as_deref()).unwrap_or_default();
    let cause = match reason {
        "CrashLoopBackOff" => Cause::CrashLoopBackOff,
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "ImageInspectError"
        | "RegistryUnavailable"
        | "SignatureValidationFailed" => Cause::ImagePullBackOff,
        _ if status.restart_count > 1 && !status.ready && has_failed(status) => Cause::CrashLoopBackOff,
        "" => return None,
        usual if USUAL_WAITS.contains(&usual) => return None,
        _ => Cause::CreateContainerError,
    };
    let detail = match cause {
        Cause::CrashLoopBackOff => {
            let ended = status.last_state.as_ref().or(state).and_then(|state| state.terminated.as_ref());
            let how = ended.map_or_else(String::new, |ended| {
                format!("exit code {} ({}), ", ended.exit_code, ended.reason.as_deref().unwrap_or("Error"))
            });
            format!("{how}{} restarts", status.restart_count)
        }
        _ if message.is_empty() => reason.to_owned(),
        _ => message.to_owned(),
    };
    Some((cause, plain(&status.name), plain(&detail)))
}

/// Returns whether the container has ended with an error.
fn has_failed(status: &ContainerStatus) -> bool {
    let states = [status.state.as_ref(), status.last_state.as_ref()];
    let mut ended = states.into_iter().flatten().filter_map(|state| state.terminated.as_ref());
    ended.any(|ended| ended.exit_code != 0)
}

/// Returns a message without control characters, shortened where it is long.
pub(super) fn plain(text: &str) -> String {
    let mut letters = text.chars().map(|c| if c == '\n' { ' ' } else { c }).filter(|c| !c.is_control());
    let mut plain: String = letters.by_ref().take(MAX_DETAIL).collect();
    if letters.next().is_some() {
        plain.push('…');
    }
    plain
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::pods::trim;
    use super::*;
    use serde_json::{Value, json};

    pub(crate) const NOW_MS: u64 = 1_767_225_600_000 + 60_000;

    /// A pod that is not ready since 2026-01-01T00:00:00Z, changed by `patch`, as it is kept.
    pub(crate) fn pod(name: &str, patch: &Value) -> Pod {
        let mut value = json!({
            "metadata": {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"rev": "1"}},
            "spec": {"containers": [{"name": "model"}]},
            "status": {"conditions": [
                {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"},
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            ]},
        });
        json_patch::merge(&mut value, patch);
        let mut pod = serde_json::from_value(value).unwrap();
        trim(&mut pod);
        pod
    }

    pub(crate) fn container(change: &Value) -> Value {
        let mut status =
            json!({"name": "model", "image": "", "imageID": "", "ready": false, "restartCount": 0});
        json_patch::merge(&mut status, change);
        json!({"status": {"containerStatuses": [status]}})
    }

    pub(crate) fn unscheduled(reason: &str, message: &str) -> Value {
        json!({"status": {"conditions": [{
            "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]}})
    }

    fn of(pods: &[Pod], asked: u32) -> Vec<Obstacle> {
        obstacles(asked, &pods.iter().collect::<Vec<_>>(), &Workload::default(), NOW_MS)
    }

    #[test]
    fn each_state_of_a_pod_has_its_cause_and_the_words_that_tell_it() {
        let waiting = |reason: &str, message: &str| {
            container(&json!({"state": {"waiting": {"reason": reason, "message": message}}}))
        };
        let ended = json!({"terminated": {"exitCode": 1, "reason": "Error"}});
        let mut gated = unscheduled("SchedulingGated", "");
        gated["spec"] = json!({"schedulingGates": [{"name": "gpu-preload"}]});
        let mut by_others = gated.clone();
        by_others["spec"]["schedulingGates"] = json!([{"name": "gpu-preload"}, {"name": "kueue.x-k8s.io/a"}]);
        let init = json!({"status": {"initContainerStatuses": [{
            "name": "setup", "image": "", "imageID": "", "ready": false, "restartCount": 3,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended,
        }]}});
        let lost = json!({"spec": {"nodeName": "node-a"}, "status": {"conditions": [
            {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {"type": "ContainersReady", "status": "True"},
        ]}});
        let mut by_a_gate = lost.clone();
        by_a_gate["spec"]["readinessGates"] = json!([{"conditionType": "example.com/lb"}]);
        let cases: [(Value, Cause, &str); 15] = [
            (lost, Cause::NodeNotReady, "node-a"),
            (by_a_gate, Cause::Starting, ""),
            (json!({}), Cause::Starting, ""),
            (gated, Cause::SchedulingGated, ""),
            (by_others, Cause::GatedByOthers, "kueue.x-k8s.io/a"),
            (unscheduled("Unschedulable", "Insufficient cpu"), Cause::Unschedulable, "Insufficient cpu"),
            (waiting("ContainerCreating", ""), Cause::Starting, ""),
            (waiting("ErrImagePull", "no such image"), Cause::ImagePullBackOff, "no such image"),
            (waiting("InvalidImageName", ""), Cause::ImagePullBackOff, "InvalidImageName"),
            (
                waiting("CreateContainerConfigError", "no secret x"),
                Cause::CreateContainerError,
                "no secret x",
            ),
            (
                container(&json!({"restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                    "lastState": ended})),
                Cause::CrashLoopBackOff,
                "exit code 1 (Error), 4 restarts",
            ),
            (
                container(&json!({"restartCount": 2, "state": {"running": {}}, "lastState": ended})),
                Cause::CrashLoopBackOff,
                "exit code 1 (Error), 2 restarts",
            ),
            (
                container(&json!({"restartCount": 1, "state": {"running": {}}, "lastState": ended})),
                Cause::Starting,
                "",
            ),
            (init, Cause::CrashLoopBackOff, "exit code 1 (Error), 3 restarts"),
            (container(&json!({"ready": true, "state": {"running": {}}})), Cause::PodNotReady, ""),
        ];
        for (patch, cause, detail) in cases {
            let found = of(&[pod("a", &patch)], 1);
            assert_eq!(found.len(), 1, "{patch}");
            assert_eq!((found[0].cause, found[0].detail.as_str()), (cause, detail), "{patch}");
            assert_eq!(
                (found[0].pod.as_str(), found[0].since.as_str()),
                ("a", "2026-01-01T00:00:00Z"),
                "{patch}"
            );
        }
    }

    #[test]
    fn who_was_refused_just_now_may_be_placed_at_the_next_try() {
        let mut just = unscheduled("Unschedulable", "x");
        just["status"]["conditions"][0]["lastTransitionTime"] = json!("2026-01-01T00:00:31Z");
        assert_eq!(of(&[pod("a", &just)], 1)[0].cause, Cause::Starting);
    }

    #[test]
    fn pods_of_one_cause_are_one_entry_and_failures_come_first() {
        let crash = container(&json!({"state": {"waiting": {"reason": "CrashLoopBackOff"}}}));
        let later = json!({"status": {"conditions": [
            {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:09Z"},
        ]}});
        let mut second = crash.clone();
        json_patch::merge(&mut second, &later);
        let pods = [pod("s", &json!({})), pod("z", &crash), pod("a", &second)];
        let found = of(&pods, 3);
        let told: Vec<_> = found.iter().map(|one| (one.cause, one.replicas, one.pod.as_str())).collect();
        assert_eq!(told, [(Cause::CrashLoopBackOff, 2, "z"), (Cause::Starting, 1, "s")]);
    }

    #[test]
    fn replicas_without_a_pod_are_refused_or_not_created_yet() {
        let refused =
            Workload { failure: Some(("exceeded quota".to_owned(), "t".to_owned())), ..Default::default() };
        let found = obstacles(3, &[], &refused, NOW_MS);
        assert_eq!(
            (found[0].cause, found[0].replicas, found[0].since.as_str()),
            (Cause::FailedCreate, 3, "t")
        );
        assert_eq!((of(&[], 2)[0].cause, of(&[], 2)[0].replicas), (Cause::Starting, 2));
        assert_eq!(of(&[], 0), []);
    }

    #[test]
    fn words_of_others_are_plain_and_short() {
        assert_eq!(plain("a\u{1b}[2J\nb"), "a[2J b");
        assert_eq!(plain(&"ü".repeat(301)).chars().count(), MAX_DETAIL + 1);
    }
}
