//! Targets at zero, and targets of kinds that tell little about their pods: what is unknown is not invented.

use serde_json::{Value, json};

use crate::objects::{
    AUTOSCALERS, DEPLOYMENTS, PODS, autoscaler, cluster, controlled_by, deployment, owned, pod, until,
};
use crate::page::{Counter, Server};
use crate::program::{condition, replicas, start, status};
use sluice_testkit::api_server::ApiServer;

const ROLLOUTS: &str = "apis/argoproj.io/v1alpha1/rollouts";
const GROUPS: &str = "apis/leaderworkerset.x-k8s.io/v1/leaderworkersets";

/// Returns an autoscaler of a target of another kind than Deployment.
fn scaling(api_version: &str, kind: &str) -> Value {
    let mut object = autoscaler("bert", "bert");
    object["spec"]["scaleTargetRef"] = json!({"apiVersion": api_version, "kind": kind, "name": "bert"});
    object
}

/// Returns a Rollout without a template of its own.
fn rollout(replicas: u32) -> Value {
    let mut object = deployment("bert", replicas);
    object["spec"]["template"] = Value::Null;
    object
}

fn asked(api: &ApiServer, collection: &str) -> Value {
    api.get(collection, "ns", "bert").unwrap()["spec"]["replicas"].clone()
}

fn message(api: &ApiServer, wanted: &str) -> String {
    let status = status(api, "bert");
    let found = status["conditions"].as_array().into_iter().flatten().find(|one| one["type"] == wanted);
    found.and_then(|one| one["message"].as_str()).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_target_that_only_has_a_scale_starts_with_one_replica_and_learns_from_its_pod() {
    for (is_forbidden, why) in [(true, "403 Forbidden"), (false, "has no spec.template.spec")] {
        let counter = Counter::default();
        let sidecar = Server::batcher(&counter).await;
        let api = cluster();
        api.put(ROLLOUTS, rollout(0));
        if is_forbidden {
            api.forbid(ROLLOUTS);
        }
        let mut object = scaling("argoproj.io/v1alpha1", "Rollout");
        object["spec"]["minReplicas"] = json!(2);
        api.put(AUTOSCALERS, object);
        let program = start(&api, "one", |_| ());
        until("the first replica is asked for", || asked(&api, ROLLOUTS) == json!(1)).await;
        until("it says what is not known", || message(&api, "CapacityLimited").contains(why)).await;
        assert_eq!(condition(&api, "bert", "CapacityLimited").1, "CapacityUnknown");
        let told = status(&api, "bert").to_string();
        assert!(!told.contains("ewer slices are free") && !told.contains("0 more fit"), "{told}");
        assert!(is_forbidden == told.contains("sluice.dev/aggregate-to-autoscaler"), "{told}");

        let owners = controlled_by("argoproj.io/v1alpha1", "Rollout", ROLLOUTS, "bert");
        api.put(PODS, owned(pod("bert", "bert-a", sidecar.port, true), owners));
        until("its pod tells", || asked(&api, ROLLOUTS) == json!(2)).await;
        until("it is known", || condition(&api, "bert", "CapacityLimited").1 == "SlicesFree").await;
        counter.set_rate(6000.0);
        until("it grows as far as slices are free", || asked(&api, ROLLOUTS) == json!(3)).await;
        program.end().await;
    }
}

#[tokio::test]
async fn a_rollout_of_a_deployments_template_is_known_at_zero() {
    let api = cluster();
    let mut object = rollout(0);
    object["spec"]["workloadRef"] = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "bert"});
    api.put(ROLLOUTS, object);
    api.put(DEPLOYMENTS, deployment("bert", 0));
    let mut object = scaling("argoproj.io/v1alpha1", "Rollout");
    object["spec"]["minReplicas"] = json!(2);
    api.put(AUTOSCALERS, object);
    let program = start(&api, "one", |_| ());
    until("both are asked for", || asked(&api, ROLLOUTS) == json!(2)).await;
    program.end().await;
}

/// Returns a LeaderWorkerSet whose groups have two pods, each of which claims a slice.
fn groups(replicas: u32) -> Value {
    let template = deployment("bert", 0)["spec"]["template"].clone();
    json!({
        "metadata": {"namespace": "ns", "name": "bert"},
        "spec": {"replicas": replicas, "leaderWorkerTemplate": {"size": 2, "workerTemplate": template}},
        "status": {"hpaPodSelector": "leaderworkerset.sigs.k8s.io/name=bert,leaderworkerset.sigs.k8s.io/worker-index=0"},
    })
}

fn member(group: u32, worker: u32, port: u16, ready: bool) -> Value {
    let mut pod = pod("bert", &format!("bert-{group}-{worker}"), port, ready);
    pod["metadata"]["labels"] = json!({
        "leaderworkerset.sigs.k8s.io/name": "bert",
        "leaderworkerset.sigs.k8s.io/group-index": group.to_string(),
        "leaderworkerset.sigs.k8s.io/worker-index": worker.to_string(),
    });
    let owners = controlled_by("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", GROUPS, "bert");
    owned(pod, owners)
}

#[tokio::test]
async fn a_replica_of_a_group_is_all_its_pods() {
    let counter = Counter::default();
    let sidecar = Server::batcher(&counter).await;
    let api = cluster();
    api.put(GROUPS, groups(0));
    let mut object = scaling("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet");
    object["spec"]["minReplicas"] = json!(2);
    api.put(AUTOSCALERS, object);
    let program = start(&api, "one", |_| ());
    // Of three slices, two are one replica.
    until("one is asked for", || asked(&api, GROUPS) == json!(1)).await;
    until("it says why not two", || {
        condition(&api, "bert", "CapacityLimited") == ("True".to_owned(), "TooFewFreeSlices".to_owned())
    })
    .await;
    assert!(
        message(&api, "CapacityLimited").contains("ach replica claims 2"),
        "{}",
        message(&api, "CapacityLimited")
    );
    api.put(PODS, member(0, 0, sidecar.port, true));
    api.put(PODS, member(0, 1, 1, false));
    until("its leader is read", || condition(&api, "bert", "MetricsFresh").0 == "True").await;
    counter.read(5).await;
    assert_eq!(status(&api, "bert")["readyReplicas"], json!(0), "its worker is not ready");
    api.put(PODS, member(0, 1, 1, true));
    until("all of it is ready", || status(&api, "bert")["readyReplicas"] == json!(1)).await;
    counter.set_rate(6000.0);
    counter.read(20).await;
    assert_eq!(asked(&api, GROUPS), json!(1));
    program.end().await;
}

#[tokio::test]
async fn zero_by_hand_is_off_until_somebody_scales_it_up() {
    let counter = Counter::default();
    let sidecar = Server::batcher(&counter).await;
    let api = cluster();
    api.put(DEPLOYMENTS, deployment("bert", 1));
    api.put(PODS, pod("bert", "bert-a", sidecar.port, true));
    api.put(AUTOSCALERS, autoscaler("bert", "bert"));
    let program = start(&api, "one", |_| ());
    until("it is followed", || condition(&api, "bert", "MetricsFresh").0 == "True").await;
    let by_hand = |replicas: u32| {
        let mut object = api.get(DEPLOYMENTS, "ns", "bert").unwrap();
        object["spec"]["replicas"] = json!(replicas);
        api.put(DEPLOYMENTS, object);
    };
    by_hand(0);
    let is_off =
        || condition(&api, "bert", "ScalingActive") == ("False".to_owned(), "ScalingDisabled".to_owned());
    until("it says that it is off", is_off).await;
    assert_eq!(condition(&api, "bert", "AbleToScale").0, "True");
    counter.set_rate(1000.0);
    counter.read(30).await;
    assert_eq!(replicas(&api), 0);
    program.end().await;

    // A new leader learns it from the status.
    let program = start(&api, "two", |_| ());
    counter.read(30).await;
    assert!(is_off(), "{}", status(&api, "bert"));
    assert_eq!(replicas(&api), 0);
    by_hand(1);
    until("it is followed again", || replicas(&api) == 2).await;
    program.end().await;
}

#[tokio::test]
async fn paused_at_zero_is_off_whatever_is_held() {
    let counter = Counter::default();
    let gateway = Server::batcher(&counter).await;
    let api = cluster();
    api.put(DEPLOYMENTS, deployment("bert", 0));
    api.put(PODS, crate::objects::gateway_pod("gateway-a", gateway.port, true));
    let mut object = autoscaler("bert", "bert");
    object["spec"]["minReplicas"] = json!(0);
    object["spec"]["paused"] = json!(true);
    object["spec"]["gateway"] = json!({"matchLabels": {"app": "bert-gateway"}});
    api.put(AUTOSCALERS, object);
    counter.latch(true);
    let program = start(&api, "one", |_| ());
    until("it says so", || condition(&api, "bert", "AbleToScale").1 == "Paused").await;
    counter.read(30).await;
    assert_eq!(replicas(&api), 0);
    let mut object = api.get(AUTOSCALERS, "ns", "bert").unwrap();
    object["spec"]["paused"] = json!(false);
    object["metadata"]["generation"] = json!(2);
    api.put(AUTOSCALERS, object);
    until("it is followed again", || replicas(&api) == 1).await;
    program.end().await;
}
