//! Conditions of the object in each state that its replicas can be in: every condition with its reason, and the words
//! that name the cause and the remedy.

use std::time::Duration;

use serde_json::{Value, json};

use crate::objects::{
    AUTOSCALERS, CLAIMS, DEPLOYMENTS, PODS, autoscaler, claim, cluster, deployment, node, pod, until,
};
use crate::page::{Counter, Server};
use crate::program::{replicas, start, status};
use sluice_testkit::api_server::ApiServer;

pub(crate) const REPLICA_SETS: &str = "apis/apps/v1/replicasets";
pub(crate) const DEVICES: [&str; 3] = ["gpu-0-mig-2g-10gb-0", "gpu-0-mig-2g-10gb-2", "gpu-0-mig-2g-10gb-4"];
/// Port on which no process listens.
pub(crate) const CLOSED: u16 = 1;

/// Returns a value changed by a merge patch (RFC 7396).
pub(crate) fn with(mut value: Value, patch: &Value) -> Value {
    json_patch::merge(&mut value, patch);
    value
}

/// Returns a pod of `bert` that is not ready, changed by `patch`.
pub(crate) fn unready(name: &str, port: u16, patch: &Value) -> Value {
    with(pod("bert", name, port, false), patch)
}

fn unscheduled(reason: &str, message: &str) -> Value {
    json!({"status": {"phase": "Pending", "podIP": null, "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]}})
}

pub(crate) fn gated() -> Value {
    with(unscheduled("SchedulingGated", ""), &json!({"spec": {"schedulingGates": [{"name": "gpu-preload"}]}}))
}

fn model(state: &Value, restarts: u32) -> Value {
    json!({"status": {
        "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        ],
        "containerStatuses": [{
            "name": "model", "image": "", "imageID": "", "ready": false, "restartCount": restarts, "state": state,
            "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}},
        }],
    }})
}

fn waiting(reason: &str, message: &str) -> Value {
    json!({"waiting": {"reason": reason, "message": message}})
}

/// Type, status and reason of an expected condition.
type Wanted<'a> = (&'a str, &'a str, &'a str);

pub(crate) fn conditions(api: &ApiServer) -> Vec<(String, String, String)> {
    let status = status(api, "bert");
    let text = |one: &Value, part: &str| one[part].as_str().unwrap_or_default().to_owned();
    let all = status["conditions"].as_array().into_iter().flatten();
    all.map(|one| (text(one, "type"), text(one, "status"), text(one, "reason"))).collect()
}

pub(crate) fn message(api: &ApiServer, wanted: &str) -> String {
    let status = status(api, "bert");
    let mut all = status["conditions"].as_array().into_iter().flatten();
    let found = all.find(|one| one["type"] == wanted);
    found.and_then(|one| one["message"].as_str()).unwrap_or_default().to_owned()
}

/// Waits until the object has exactly these conditions (and `DryRun` False), and until the messages of conditions have
/// the words given for them.
async fn says(state: &str, api: &ApiServer, wanted: &[Wanted<'_>], words: &[(&str, &str)]) {
    let mut all: Vec<_> =
        wanted.iter().map(|(a, b, c)| ((*a).to_owned(), (*b).to_owned(), (*c).to_owned())).collect();
    all.push(("DryRun".to_owned(), "False".to_owned(), "Applying".to_owned()));
    all.sort();
    let found = || {
        let mut found = conditions(api);
        found.sort();
        found
    };
    for _ in 0..1500 {
        if found() == all {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(found(), all, "{state}: {}", status(api, "bert"));
    for (condition, words) in words {
        until(&format!("{state}: {condition} says {words:?}: {}", message(api, condition)), || {
            message(api, condition).contains(words)
        })
        .await;
    }
}

const ABLE: Wanted<'static> = ("AbleToScale", "True", "ReadyForNewScale");
const WITHIN: Wanted<'static> = ("ScalingLimited", "False", "DesiredWithinRange");
const FREE: Wanted<'static> = ("CapacityLimited", "False", "SlicesFree");
const BLIND: [Wanted<'static>; 4] =
    [ABLE, WITHIN, ("ScalingActive", "False", "MetricsMissing"), ("MetricsFresh", "False", "MetricsMissing")];
const SEES: [Wanted<'static>; 4] =
    [ABLE, WITHIN, ("ScalingActive", "True", "ValidMetricFound"), ("MetricsFresh", "True", "MetricsFresh")];

/// A state: one Deployment `bert` of one replica, and further objects.
struct State<'a> {
    name: &'a str,
    /// Objects beside the Deployment, with their collections.
    put: Vec<(&'a str, Value)>,
    deployment: Value,
    common: [Wanted<'static>; 4],
    capacity: Wanted<'static>,
    ready: Wanted<'static>,
    words: &'a [(&'a str, &'a str)],
}

fn not_ready(reason: &'static str) -> Wanted<'static> {
    ("Ready", "False", reason)
}

fn failed_create(message: &str) -> Value {
    json!({"status": {"conditions": [{
        "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]}})
}

fn lost_node() -> Value {
    let unknown = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
    with(node(json!({})), &unknown)
}

fn on_lost_node() -> Value {
    let condition = |name: &str, status: &str| json!({"type": name, "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let conditions = [("PodScheduled", "True"), ("ContainersReady", "True"), ("Ready", "False")];
    json!({"spec": {"nodeName": "node"}, "status": {
        "conditions": conditions.map(|(name, status)| condition(name, status)),
    }})
}

/// Returns pods of another workload, with claims that hold all three slices.
fn full() -> Vec<(&'static str, Value)> {
    let owners = ["x", "y", "z"];
    let held = owners.iter().zip(DEVICES);
    held.flat_map(|(owner, device)| {
        [(PODS, pod("other", owner, CLOSED, true)), (CLAIMS, claim(owner, Some(device)))]
    })
    .collect()
}

fn states(port: u16) -> Vec<State<'static>> {
    let none = || json!({});
    let one = |patch: &Value| vec![(PODS, unready("bert-a", CLOSED, patch))];
    let state = |name, put, ready, words| State {
        name,
        put,
        deployment: none(),
        common: BLIND,
        capacity: FREE,
        ready: not_ready(ready),
        words,
    };
    let mut waits = full();
    waits.extend(one(&gated()));
    let mut lost = one(&gated());
    let gone = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    lost.push((PODS, unready("bert-old", CLOSED, &gone)));
    lost.push(("api/v1/nodes", lost_node()));
    let quota =
        "pods \"bert-\" is forbidden: exceeded quota: gold, requested: limits.cpu=1, used: limits.cpu=2";
    let unspecified = "pods \"bert-\" is forbidden: failed quota: gold: must specify limits.cpu for: model";
    let crash = model(&waiting("CrashLoopBackOff", "back-off"), 4);
    vec![
        State {
            capacity: ("CapacityLimited", "True", "ReplicasWaitForSlice"),
            ..state(
                "gated: no slice is free",
                waits,
                "SchedulingGated",
                &[
                    ("Ready", "Pod bert-a waits for a slice"),
                    ("CapacityLimited", "1 pod waits for a slice, and none is free. 2g.10gb: 0 free"),
                    ("CapacityLimited", "ns/x-gpu"),
                ],
            )
        },
        state(
            "pending",
            one(&unscheduled("Unschedulable", "0/1 nodes: Insufficient cpu")),
            "Unschedulable",
            &[("Ready", "0/1 nodes: Insufficient cpu"), ("Ready", "kubectl describe pod bert-a")],
        ),
        state(
            "pulling",
            one(&model(&waiting("ContainerCreating", ""), 0)),
            "ReplicasStarting",
            &[("Ready", "Pod bert-a is starting since 2026-01-01T00:00:00Z")],
        ),
        state(
            "image missing",
            one(&model(&waiting("ErrImagePull", "not found: nvcr.io/x"), 0)),
            "ImagePullBackOff",
            &[("Ready", "not found: nvcr.io/x"), ("Ready", "imagePullSecrets")],
        ),
        state(
            "a Secret is missing",
            one(&model(&waiting("CreateContainerConfigError", "secret \"a\" not found"), 0)),
            "CreateContainerError",
            &[("Ready", "secret \"a\" not found")],
        ),
        State {
            common: SEES,
            ..state(
                "warming",
                vec![(PODS, unready("bert-a", port, &model(&json!({"running": {}}), 0)))],
                "ReplicasStarting",
                &[("Ready", "Pod bert-a is starting")],
            )
        },
        State {
            common: SEES,
            ready: ("Ready", "True", "ReplicasReady"),
            ..state(
                "ready",
                vec![(PODS, pod("bert", "bert-a", port, true))],
                "",
                &[("Ready", "The only replica is ready."), ("CapacityLimited", "2 more replicas fit.")],
            )
        },
        state(
            "crash-looping",
            one(&crash),
            "CrashLoopBackOff",
            &[
                ("Ready", "exit code 1 (Error), 4 restarts"),
                ("Ready", "kubectl logs bert-a -c model --previous"),
                ("CapacityLimited", "2 more slices are free, but replicas fail to start"),
                ("ScalingActive", "no replica is ready; the condition Ready says why"),
            ],
        ),
        State {
            common: SEES,
            capacity: ("CapacityLimited", "False", "NoSliceFree"),
            ..state(
                "node lost",
                vec![(PODS, unready("bert-a", port, &on_lost_node())), ("api/v1/nodes", lost_node())],
                "NodeNotReady",
                &[(
                    "Ready",
                    "Pod bert-a is on a node that does not answer since 2026-01-01T00:00:00Z: node.",
                )],
            )
        },
        State {
            deployment: failed_create(quota),
            ..state(
                "quota exceeded",
                Vec::new(),
                "FailedCreate",
                &[("Ready", "exceeded quota: gold"), ("Ready", "Raise the ResourceQuota")],
            )
        },
        State {
            deployment: failed_create(unspecified),
            ..state("quota without limits", Vec::new(), "FailedCreate", &[("Ready", "LimitRange")])
        },
        State {
            common: SEES,
            capacity: ("CapacityLimited", "False", "NoSliceFree"),
            ready: ("Ready", "True", "ReplicasReady"),
            ..state(
                "node cordoned",
                vec![
                    (PODS, pod("bert", "bert-a", port, true)),
                    ("api/v1/nodes", node(json!({"unschedulable": true}))),
                ],
                "",
                &[("CapacityLimited", "none would fit")],
            )
        },
        State {
            capacity: ("CapacityLimited", "True", "ReplicasWaitForSlice"),
            ..state(
                "all nodes lost, and the pod is made anew",
                lost,
                "SchedulingGated",
                &[("Ready", "Pod bert-a waits for a slice")],
            )
        },
    ]
}

#[tokio::test]
async fn each_state_of_the_replicas_has_its_conditions_and_its_cause_in_words() {
    let sidecar = Server::batcher(&Counter::default()).await;
    for State { name, put, deployment: patch, common, capacity, ready, words } in states(sidecar.port) {
        let api = cluster();
        api.put(DEPLOYMENTS, with(deployment("bert", 1), &patch));
        put.into_iter().for_each(|(collection, object)| api.put(collection, object));
        api.put(AUTOSCALERS, autoscaler("bert", "bert"));
        let program = start(&api, "one", |_| ());
        let wanted = [&common[..], &[capacity, ready]].concat();
        says(name, &api, &wanted, words).await;
        assert_eq!(replicas(&api), 1, "{name}");
        program.end().await;
    }
}

#[tokio::test]
async fn no_more_are_asked_for_while_the_model_cannot_start() {
    let counter = Counter::default();
    let sidecar = Server::batcher(&counter).await;
    let api = cluster();
    api.put(DEPLOYMENTS, deployment("bert", 1));
    let crash = model(&waiting("CrashLoopBackOff", ""), 4);
    api.put(PODS, unready("bert-a", sidecar.port, &crash));
    api.put(AUTOSCALERS, autoscaler("bert", "bert"));
    counter.set_rate(6000.0);
    let program = start(&api, "one", |_| ());
    let limited = ("ScalingLimited", "True", "ReplicasFailing");
    let mut wanted = SEES;
    wanted[1] = limited;
    let wanted = [&wanted[..], &[FREE, not_ready("CrashLoopBackOff")]].concat();
    says("crash-looping under load", &api, &wanted, &[]).await;
    assert_eq!(replicas(&api), 1);
    let is_told = || {
        api.writes()
            .iter()
            .any(|(_, path, body)| path.ends_with("/events") && body["reason"] == "ReplicasNotReady")
    };
    until("an event tells it", is_told).await;
    api.put(PODS, pod("bert", "bert-a", sidecar.port, true));
    until("it grows when the model starts", || replicas(&api) == 3).await;
    program.end().await;
}

#[tokio::test]
async fn of_a_target_that_is_gone_nothing_is_said_but_that() {
    let sidecar = Server::batcher(&Counter::default()).await;
    let api = cluster();
    api.put(DEPLOYMENTS, deployment("bert", 1));
    api.put(PODS, pod("bert", "bert-a", sidecar.port, true));
    api.put(AUTOSCALERS, autoscaler("bert", "bert"));
    let program = start(&api, "one", |_| ());
    until("it decides", || conditions(&api).len() == 7).await;
    api.delete(DEPLOYMENTS, "ns", "bert");
    until("everything else is not known", || {
        let all = conditions(&api);
        all.iter().all(|(name, status, reason)| {
            let wanted = if name == "AbleToScale" { "False" } else { "Unknown" };
            status == wanted && reason == "TargetNotFound"
        })
    })
    .await;
    program.end().await;
}
