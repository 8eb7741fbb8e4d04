//! The API server of these tests: it is in memory, and its discovery has only apps/v1, Argo Rollouts and
//! LeaderWorkerSets.

use serde_json::{Value, json};
use sluice_testkit::api_server::ApiServer;

pub(crate) fn server() -> ApiServer {
    let resource = |name: &str, kind: &str| json!({"name": name, "singularName": "", "namespaced": true, "kind": kind, "verbs": ["get", "patch"]});
    let group = |group_version: &str, resources: Vec<Value>| json!({ "groupVersion": group_version, "resources": resources });
    let apps = vec![
        resource("deployments", "Deployment"),
        resource("deployments/scale", "Scale"),
        resource("replicasets", "ReplicaSet"),
        resource("replicasets/scale", "Scale"),
        resource("daemonsets", "DaemonSet"),
    ];
    let rollouts = vec![resource("rollouts", "Rollout"), resource("rollouts/scale", "Scale")];
    let groups =
        vec![resource("leaderworkersets", "LeaderWorkerSet"), resource("leaderworkersets/scale", "Scale")];
    let server = ApiServer::new();
    for (version, resources) in
        [("apps/v1", apps), ("argoproj.io/v1alpha1", rollouts), ("leaderworkerset.x-k8s.io/v1", groups)]
    {
        server.serve(&format!("/apis/{version}"), group(version, resources));
    }
    server
}
