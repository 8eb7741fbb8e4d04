//! The cluster itself: pods run, names resolve, restarts of the node's programs do no harm.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sluice_config::names;
use tokio::net::TcpStream;

use super::Namespace;
use crate::addresses;
use crate::cluster::{Cluster, Look};
use crate::contents::fake_nodes::{self, LABEL, TAINT};
use crate::images;
use crate::node::components::NODE_NAME;
use crate::traffic::cut::Cut;

/// Time within which a pod must run.
const RUNS_WITHIN: Duration = Duration::from_secs(60);

/// Time for which a client that cannot connect is watched; without the cut it would be done in 2 s.
const CUT_FOR: Duration = Duration::from_secs(5);

/// Returns a Service with the reference model (simulated inference) behind it.
pub(super) fn model() -> Value {
    let container = json!({
        "name": "model",
        "image": images::reference("sluice-loadtest"),
        "args": ["model", "--listen", "0.0.0.0:9000", "--admin-listen", "0.0.0.0:9090"],
        // The size of the slice, which the driver sets for a claim. This pod has no claim.
        "env": [{ "name": names::env::PROFILE, "value": "7g.40gb" }],
        "ports": [{ "containerPort": 9000 }],
        "readinessProbe": { "httpGet": { "path": "/v2/health/ready", "port": 9000 }, "periodSeconds": 1 },
    });
    json!({ "apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": "model" },
            "spec": {
                "selector": { "matchLabels": { "app": "model" } },
                "template": {
                    "metadata": { "labels": { "app": "model" } },
                    "spec": { "containers": [container], "terminationGracePeriodSeconds": 1 },
                },
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": "model" },
            "spec": { "selector": { "app": "model" }, "ports": [{ "port": 80, "targetPort": 9000 }] },
        },
    ]})
}

/// Returns a pod that sends requests to `target` and fails where one is lost.
fn client(target: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "client" },
        "spec": {
            "restartPolicy": "Never",
            "containers": [{
                "name": "client",
                "image": images::reference("sluice-loadtest"),
                "args": [
                    "run", "--target", target, "--allow-remote", "true", "--rate-rps", "50",
                    "--duration-ms", "1000", "--threshold", "lost==0",
                ],
            }],
        },
    })
}

/// A Service's short name and its full name resolve.
pub(super) async fn names_resolve(cluster: Cluster) -> Result<()> {
    let namespace = Namespace::create(&cluster, "names-resolve").await?;
    namespace.apply(&model().to_string()).await?;
    namespace.wait_rollout("deployment/model", RUNS_WITHIN).await?;
    for target in ["model:80", "model.names-resolve.svc.cluster.local:80"] {
        namespace.apply(&client(target).to_string()).await?;
        wait_nothing_lost(&cluster, &namespace, "client").await?;
        namespace.kubectl(&["delete", "pod", "client"]).await?;
    }
    namespace.remove().await
}

/// KWOK's nodes take only pods that tolerate them, and report those as running.
pub(super) async fn simulated_nodes(cluster: Cluster) -> Result<()> {
    fake_nodes::create(&cluster, 2).await?;
    cluster.wait_node("kwok-1", RUNS_WITHIN).await?;
    let namespace = Namespace::create(&cluster, "simulated-nodes").await?;
    let mut asks = client("nowhere:80");
    asks["metadata"]["name"] = json!("asks");
    asks["spec"]["nodeSelector"] = json!({ LABEL.0: LABEL.1 });
    asks["spec"]["tolerations"] = json!([{ "key": TAINT, "operator": "Exists" }]);
    namespace.apply(&asks.to_string()).await?;
    namespace.apply(&model().to_string()).await?;
    namespace.wait_rollout("deployment/model", RUNS_WITHIN).await?;
    namespace.kubectl(&["wait", "--for=condition=Ready", "pod/asks", "--timeout=60s"]).await?;
    let nodes =
        namespace.kubectl(&["get", "pods", "-o", "jsonpath={range .items[*]}{.spec.nodeName}{\"\\n\"}{end}"]);
    let nodes = nodes.await?;
    let real = nodes.lines().filter(|node| *node == NODE_NAME).count();
    ensure!(real == 1 && nodes.lines().count() == 2, "one pod on each kind of node, not {nodes:?}");
    namespace.remove().await
}

/// The pod's process is the same before and after each restart of a node program. The pod may be unready for a moment:
/// a kubelet that starts runs the probes anew.
pub(super) async fn restarts(cluster: Cluster) -> Result<()> {
    let namespace = Namespace::create(&cluster, "restarts").await?;
    namespace.apply(&model().to_string()).await?;
    namespace.wait_rollout("deployment/model", RUNS_WITHIN).await?;
    let started = "jsonpath={.items[0].status.containerStatuses[0].state.running.startedAt}";
    let before = namespace.kubectl(&["get", "pods", "-o", started]).await?;
    for component in ["containerd", "kubelet"] {
        cluster.crash(component).await?;
        namespace.apply(&client("model:80").to_string()).await?;
        wait_ended(&cluster, &namespace, "client").await?;
        namespace.kubectl(&["delete", "pod", "client"]).await?;
        namespace.wait_rollout("deployment/model", RUNS_WITHIN).await?;
        cluster
            .wait_node(NODE_NAME, RUNS_WITHIN)
            .await
            .with_context(|| format!("after {component} was killed"))?;
    }
    namespace.apply(&client("model:80").to_string()).await?;
    wait_nothing_lost(&cluster, &namespace, "client").await?;
    let after = namespace.kubectl(&["get", "pods", "-l", "app=model", "-o", started]).await?;
    ensure!(before == after, "the model started at {before} and again at {after}");
    namespace.remove().await
}

/// Only the named port is cut off, also between two pods: other scenarios rely on this.
pub(super) async fn cut_traffic(cluster: Cluster) -> Result<()> {
    let namespace = Namespace::create(&cluster, "cut-traffic").await?;
    namespace.apply(&model().to_string()).await?;
    namespace.wait_rollout("deployment/model", RUNS_WITHIN).await?;
    let address = namespace.kubectl(&["get", "pods", "-o", "jsonpath={.items[0].status.podIP}"]).await?;
    let cut = Cut::new(addresses::PODS, &address, Some(9000))?;
    ensure!(!answers(&address, 9000).await, "{address}:9000 answers the node");
    ensure!(answers(&address, 9090).await, "{address}:9090, which was not cut, does not answer");
    // The client connects again and again, and succeeds when the cut ends.
    namespace.apply(&client(&format!("{address}:9000")).to_string()).await?;
    namespace.kubectl(&["wait", "--for=condition=Ready", "pod/client", "--timeout=60s"]).await?;
    tokio::time::sleep(CUT_FOR).await;
    let phase = namespace.kubectl(&["get", "pod", "client", "-o", "jsonpath={.status.phase}"]).await?;
    ensure!(phase == "Running", "the other pod connected: its phase is {phase}");
    cut.end()?;
    ensure!(answers(&address, 9000).await, "{address}:9000 does not answer again");
    wait_nothing_lost(&cluster, &namespace, "client").await?;
    namespace.remove().await
}

async fn answers(address: &str, port: u16) -> bool {
    let connecting = TcpStream::connect((address.to_owned(), port));
    tokio::time::timeout(Duration::from_secs(2), connecting).await.is_ok_and(|connected| connected.is_ok())
}

/// Waits for the pod's report and checks that no request was lost. A generator that was late, on a busy machine, is no
/// failure here.
async fn wait_nothing_lost(cluster: &Cluster, namespace: &Namespace, pod: &str) -> Result<()> {
    wait_ended(cluster, namespace, pod).await?;
    let report = namespace.kubectl(&["logs", pod]).await?;
    ensure!(report.contains("lost==0 (is 0"), "requests of pod {pod} were lost: {report}");
    Ok(())
}

async fn wait_ended(cluster: &Cluster, namespace: &Namespace, pod: &str) -> Result<()> {
    cluster
        .wait_for(&format!("pod {pod} ended"), RUNS_WITHIN, || async {
            let phase = namespace.kubectl(&["get", "pod", pod, "-o", "jsonpath={.status.phase}"]).await?;
            Ok(match phase.as_str() {
                "Succeeded" | "Failed" => Look::Done(()),
                _ => Look::NotYet(phase),
            })
        })
        .await
}
