//! Rollouts of a Deployment on a cluster without a free slice.

use serde_json::json;

use crate::objects::{
    AUTOSCALERS, CLAIMS, DEPLOYMENTS, PODS, autoscaler, claim, cluster, deployment, pod, until,
};
use crate::page::{Counter, Server};
use crate::program::{replicas, start};
use crate::states::{CLOSED, DEVICES, REPLICA_SETS, conditions, gated, message, unready, with};
use sluice_testkit::api_server::ApiServer;

/// Returns a cluster with three replicas on three slices, each with a page, and a fourth pod, of the next revision,
/// that is gated.
async fn rollout(counter: &Counter, minimum: u32) -> (ApiServer, Vec<Server>) {
    let api = cluster();
    let patch = json!({
        "metadata": {"annotations": {"deployment.kubernetes.io/revision": "2"}},
        "spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}},
    });
    api.put(DEPLOYMENTS, with(deployment("bert", 3), &patch));
    for (set, revision) in [("bert-old", "1"), ("bert-new", "2")] {
        api.put(REPLICA_SETS, json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"namespace": "ns", "name": set, "annotations": {"deployment.kubernetes.io/revision": revision}},
        }));
    }
    let of = |set: &str, hash: &str| {
        json!({"metadata": {
            "labels": {"app": "bert", "pod-template-hash": hash},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": set, "uid": set}],
        }})
    };
    let mut servers = Vec::new();
    for (index, device) in DEVICES.iter().enumerate() {
        let (name, server) = (format!("bert-old-{index}"), Server::batcher(counter).await);
        api.put(PODS, with(pod("bert", &name, server.port, true), &with(of("bert-old", "old"), &json!({"status": {
            "conditions": [
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            ],
        }}))));
        api.put(CLAIMS, claim(&name, Some(device)));
        servers.push(server);
    }
    api.put(PODS, unready("bert-new-0", CLOSED, &with(of("bert-new", "new"), &gated())));
    let mut object = autoscaler("bert", "bert");
    object["spec"]["minReplicas"] = json!(minimum);
    api.put(AUTOSCALERS, object);
    (api, servers)
}

#[tokio::test]
async fn a_rollout_on_a_full_cluster_gets_the_slice_of_one_replica_and_no_more() {
    let counter = Counter::default();
    let (api, servers) = rollout(&counter, 1).await;
    let program = start(&api, "one", |_| ());
    until("one is given up", || replicas(&api) == 2).await;
    until("it is said", || {
        message(&api, "CapacityLimited").contains("A rollout has the slice of one replica")
    })
    .await;
    // The Deployment removes an old pod, and the new one gets its slice; the load rises meanwhile.
    api.delete(PODS, "ns", "bert-old-2");
    api.delete(CLAIMS, "ns", "bert-old-2-gpu");
    counter.set_rate(6000.0);
    counter.read(30).await;
    assert_eq!(replicas(&api), 2, "neither lowered again nor raised");
    let new = pod("bert", "bert-new-0", servers[2].port, true);
    api.put(
        PODS,
        with(
            new,
            &json!({"metadata": {"labels": {"pod-template-hash": "new"}, "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "bert-new", "uid": "bert-new"},
            ]}}),
        ),
    );
    api.put(CLAIMS, claim("bert-new-0", Some(DEVICES[2])));
    for name in ["bert-old-0", "bert-old-1"] {
        api.delete(PODS, "ns", name);
        api.delete(CLAIMS, "ns", &format!("{name}-gpu"));
    }
    until("it grows again when the rollout is over", || replicas(&api) == 3).await;
    program.end().await;
}

#[tokio::test]
async fn a_rollout_whose_own_pods_hold_the_slices_is_named_where_none_may_be_given_up() {
    let (api, _servers) = rollout(&Counter::default(), 3).await;
    let program = start(&api, "one", |_| ());
    until("it is said", || {
        let all = conditions(&api);
        all.contains(&("CapacityLimited".to_owned(), "True".to_owned(), "RolloutWaitsForSlice".to_owned()))
    })
    .await;
    let says = message(&api, "CapacityLimited");
    for words in [
        "bert-new-0",
        "its own 3 old pods keep theirs",
        "3 replicas are minReplicas",
        "maxUnavailable: 1 and maxSurge: 0",
    ] {
        assert!(says.contains(words), "{words}: {says}");
    }
    assert_eq!(replicas(&api), 3);
    let ready = message(&api, "Ready");
    assert!(ready.contains("All 3 replicas are ready. Pod bert-new-0 waits for a slice"), "{ready}");
    program.end().await;
}
