//! Conflicts over the same replicas: with autoscalers that can be seen, overlapping selectors, and unknown writers.

use serde_json::{Value, json};

use crate::objects::{
    AUTOSCALERS, DEPLOYMENTS, HPAS, PODS, REPLICA_SETS, autoscaler, cluster, controlled_by, deployment,
    owned, pod, replica_set, until,
};
use crate::page::{Counter, Server};
use crate::program::{Program, condition, replicas, start, status};
use sluice_testkit::api_server::ApiServer;

/// Rate, in rows/s, that is more than all possible replicas serve.
const MUCH: f64 = 6000.0;

/// Returns a cluster with a Deployment of one ready pod through a ReplicaSet, and the page of its sidecar.
async fn bert(counter: &Counter) -> (ApiServer, Server) {
    let sidecar = Server::batcher(counter).await;
    let api = cluster();
    api.put(DEPLOYMENTS, deployment("bert", 1));
    api.put(REPLICA_SETS, replica_set("bert", "bert-new"));
    api.put(PODS, of_set(pod("bert", "bert-a", sidecar.port, true), "bert-new"));
    api.put(AUTOSCALERS, autoscaler("bert", "bert"));
    (api, sidecar)
}

fn of_set(pod: Value, set: &str) -> Value {
    owned(pod, controlled_by("apps/v1", "ReplicaSet", REPLICA_SETS, set))
}

fn hpa(api_version: &str, kind: &str, name: &str) -> Value {
    json!({
        "metadata": {"namespace": "ns", "name": "other"},
        "spec": {"maxReplicas": 9, "scaleTargetRef": {"apiVersion": api_version, "kind": kind, "name": name}},
    })
}

fn said(api: &ApiServer, name: &str, reason: &str) -> bool {
    condition(api, name, "AbleToScale") == ("False".to_owned(), reason.to_owned())
}

fn scales(api: &ApiServer) -> usize {
    api.writes().into_iter().filter(|(_, path, _)| path.ends_with("/scale")).count()
}

fn message(api: &ApiServer, name: &str, wanted: &str) -> String {
    let status = status(api, name);
    let found = status["conditions"].as_array().into_iter().flatten().find(|one| one["type"] == wanted);
    found.and_then(|one| one["message"].as_str()).unwrap_or_default().to_owned()
}

/// Asserts that replicas stay at `expected`, and that no scale is written, during many rounds with much demand.
async fn held_at(api: &ApiServer, counter: &Counter, expected: u64) {
    api.writes();
    counter.set_rate(MUCH);
    counter.read(40).await;
    assert_eq!((replicas(api), scales(api)), (expected, 0), "{}", status(api, "bert"));
}

async fn follows_again(api: &ApiServer, program: Program) {
    until("it is followed again", || condition(api, "bert", "AbleToScale").0 == "True").await;
    until("it grows", || replicas(api) == 3).await;
    program.end().await;
}

#[tokio::test]
async fn beside_an_hpa_nothing_is_written_until_it_is_gone() {
    for (api_version, kind, name) in
        [("apps/v1beta1", "Deployment", "bert"), ("apps/v1", "ReplicaSet", "bert-new")]
    {
        let counter = Counter::default();
        let (api, _sidecar) = bert(&counter).await;
        api.put(HPAS, hpa(api_version, kind, name));
        let program = start(&api, "one", |_| ());
        until("it says so", || said(&api, "bert", "AmbiguousTarget")).await;
        let told = message(&api, "bert", "AbleToScale");
        assert!(told.contains("HorizontalPodAutoscaler ns/other"), "{told}");
        held_at(&api, &counter, 1).await;
        api.delete(HPAS, "ns", "other");
        follows_again(&api, program).await;
    }
}

#[tokio::test]
async fn an_hpa_that_comes_later_and_one_of_another_target() {
    let counter = Counter::default();
    let (api, _sidecar) = bert(&counter).await;
    api.put(HPAS, hpa("apps/v1", "Deployment", "other"));
    let program = start(&api, "one", |_| ());
    until("it is followed", || condition(&api, "bert", "MetricsFresh").0 == "True").await;
    assert_eq!(condition(&api, "bert", "AbleToScale").0, "True");
    api.put(HPAS, hpa("apps/v1", "Deployment", "bert"));
    until("it says so", || said(&api, "bert", "AmbiguousTarget")).await;
    held_at(&api, &counter, 1).await;
    program.end().await;
}

#[tokio::test]
async fn hpas_that_may_not_be_listed_stop_nothing() {
    let counter = Counter::default();
    let (api, _sidecar) = bert(&counter).await;
    api.forbid(HPAS);
    counter.set_rate(MUCH);
    let program = start(&api, "one", |_| ());
    follows_again(&api, program).await;
}

#[tokio::test]
async fn pods_of_others_that_the_selector_matches_hold_the_replicas_and_are_named() {
    let job = json!([{
        "apiVersion": "batch/v1", "kind": "Job", "name": "load", "uid": "load", "controller": true,
    }]);
    for (owners, named) in [
        (controlled_by("apps/v1", "ReplicaSet", REPLICA_SETS, "canary-1"), "Deployment canary"),
        (job, "Job load"),
        (Value::Null, "pod stranger, which has no controller"),
    ] {
        let counter = Counter::default();
        let (api, sidecar) = bert(&counter).await;
        api.put(DEPLOYMENTS, deployment("canary", 1));
        api.put(REPLICA_SETS, replica_set("canary", "canary-1"));
        let program = start(&api, "one", |_| ());
        until("it is followed", || condition(&api, "bert", "MetricsFresh").0 == "True").await;
        api.put(PODS, owned(pod("bert", "stranger", sidecar.port, true), owners));
        until("it says so", || said(&api, "bert", "AmbiguousSelector")).await;
        let told = message(&api, "bert", "AbleToScale");
        assert!(told.contains(named), "{told}");
        assert_eq!(status(&api, "bert")["readyReplicas"], json!(1), "a stranger is no replica");
        held_at(&api, &counter, 1).await;
        api.delete(PODS, "ns", "stranger");
        follows_again(&api, program).await;
    }
}

#[tokio::test]
async fn bounds_are_kept_while_pods_are_ambiguous() {
    let (api, sidecar) = bert(&Counter::default()).await;
    api.put(PODS, owned(pod("bert", "stranger", sidecar.port, true), Value::Null));
    let program = start(&api, "one", |_| ());
    until("it says so", || said(&api, "bert", "AmbiguousSelector")).await;
    let mut raised = api.get(AUTOSCALERS, "ns", "bert").unwrap();
    raised["spec"]["minReplicas"] = json!(2);
    raised["metadata"]["generation"] = json!(2);
    api.put(AUTOSCALERS, raised);
    until("the minimum is followed", || replicas(&api) == 2).await;
    assert!(said(&api, "bert", "AmbiguousSelector"));
    program.end().await;
}

#[tokio::test]
async fn old_replica_sets_of_a_rollout_are_its_own() {
    let counter = Counter::default();
    let (api, sidecar) = bert(&counter).await;
    api.put(REPLICA_SETS, replica_set("bert", "bert-old"));
    api.put(PODS, of_set(pod("bert", "bert-b", sidecar.port, true), "bert-old"));
    let program = start(&api, "one", |_| ());
    until("it is followed", || condition(&api, "bert", "MetricsFresh").0 == "True").await;
    assert_eq!(condition(&api, "bert", "AbleToScale").0, "True");
    counter.set_rate(MUCH);
    until("it grows", || replicas(&api) >= 2).await;
    program.end().await;
}

#[tokio::test]
async fn two_autoscalers_whose_targets_share_pods_both_say_so() {
    let counter = Counter::default();
    let (api, sidecar) = bert(&counter).await;
    // The canary's selector matches only its own pods, so the problem cannot be seen from the canary.
    let mut canary = deployment("canary", 1);
    canary["spec"]["selector"]["matchLabels"] = json!({"app": "bert", "track": "canary"});
    api.put(DEPLOYMENTS, canary);
    api.put(REPLICA_SETS, replica_set("canary", "canary-1"));
    let mut shared = of_set(pod("bert", "canary-a", sidecar.port, true), "canary-1");
    shared["metadata"]["labels"]["track"] = json!("canary");
    api.put(PODS, shared);
    api.put(AUTOSCALERS, autoscaler("canary", "canary"));
    let program = start(&api, "one", |_| ());
    until("both say so", || {
        said(&api, "bert", "AmbiguousSelector") && said(&api, "canary", "AmbiguousSelector")
    })
    .await;
    assert!(message(&api, "canary", "AbleToScale").contains("selector of Deployment bert"));
    assert!(message(&api, "bert", "AbleToScale").contains("pods of Deployment canary"));
    held_at(&api, &counter, 1).await;
    api.delete(AUTOSCALERS, "ns", "canary");
    api.delete(PODS, "ns", "canary-a");
    follows_again(&api, program).await;
}

#[tokio::test]
async fn a_writer_that_is_not_seen_is_not_fought() {
    let counter = Counter::default();
    let (api, _sidecar) = bert(&counter).await;
    counter.set_rate(MUCH);
    let program = start(&api, "one", |_| ());
    let mut writes = 0;
    until("it says so", || {
        // Each change is set back at once, as by a tool that applies a manifest.
        if replicas(&api) != 1 {
            writes += 1;
            let mut object = api.get(DEPLOYMENTS, "ns", "bert").unwrap();
            object["spec"]["replicas"] = json!(1);
            api.put(DEPLOYMENTS, object);
        }
        said(&api, "bert", "ScaleContested")
    })
    .await;
    assert_eq!(writes, 3, "{}", status(&api, "bert"));
    let told = message(&api, "bert", "AbleToScale");
    assert!(told.contains("show-managed-fields") && told.contains("to 1 by another"), "{told}");
    let events: Vec<Value> = api
        .writes()
        .into_iter()
        .filter(|(_, path, body)| path.ends_with("/events") && body["reason"] == json!("ScaleContested"))
        .map(|(_, _, body)| body)
        .collect();
    assert_eq!(events.len(), 1, "{events:?}");
    counter.read(40).await;
    assert_eq!((replicas(&api), scales(&api)), (1, 0), "nothing is written in the pause");
    program.end().await;
}
