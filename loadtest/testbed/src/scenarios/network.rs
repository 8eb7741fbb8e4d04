//! NetworkPolicies: with the shipped ones everything works, and no other client reaches a port of Sluice's programs;
//! without them the same ports are open, which shows that the policies close them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use sluice_config::names::{SYSTEM_NAMESPACE, pod as names};

use super::sample::{self, NAME, PODS, Sample};
use super::{Namespace, cluster_works, pods};
use crate::cluster::{Cluster, Look};
use crate::contents::install;
use crate::processes::Identity;
use crate::traffic::load::Load;

/// How long the sample may take to serve, and to get another replica.
const WITHIN: Duration = Duration::from_secs(120);
/// How long the engine may take to follow a change.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(30);
/// Admin ports of Sluice's programs, by the label of their pods.
const ADMIN_PORTS: [(&str, u16); 4] = [
    ("sluice-autoscaler", 8083),
    ("sluice-preloader", 8085),
    ("sluice-preloader-watchdog", 8085),
    ("sluice-driver", 8093),
];
/// The model's own port, on all addresses in this scenario.
const MODEL_PORT: u16 = 9000;
/// Load that needs more than one replica of the sample, in requests per second.
const TOO_MUCH_RPS: &str = "100";

/// Client that tries to connect.
struct Client {
    who: &'static str,
    process: Identity,
}

/// Port of a program.
#[derive(Debug, Clone)]
struct Port {
    what: String,
    address: String,
    number: u16,
}

impl Port {
    fn of(pod: &Pod, what: &str, number: u16) -> Result<Self> {
        Ok(Self { what: format!("{what} of {}", pods::name(pod)), address: pods::address(pod)?, number })
    }
}

/// The shipped policies on a cluster that enforces them.
pub(super) async fn policies(cluster: Cluster) -> Result<()> {
    let inference = Namespace::create(&cluster, "network").await?;
    let other = Namespace::create(&cluster, "network-other").await?;
    let monitoring = Namespace::create(&cluster, "network-monitoring").await?;
    cluster.kubectl(&["label", "namespace", monitoring.name, "sluice.dev/monitoring=enabled"]).await?;
    let other_client = client(&cluster, &other, "a pod of another tenant").await?;
    let monitoring_client = client(&cluster, &monitoring, "a pod that scrapes").await?;
    let mut sample = Sample::read(&cluster)?;
    let model = &mut sample.object("Deployment")?["spec"]["template"]["spec"]["containers"][0];
    let listens = model["args"].as_array_mut().context("the model has no arguments")?;
    let address = listens.iter_mut().find(|argument| **argument == json!("127.0.0.1:9000"));
    *address.context("the model does not listen on 127.0.0.1:9000")? = json!("0.0.0.0:9000");
    sample.start(&inference, WITHIN).await?;
    let guarded = guarded(&cluster, &inference).await?;
    let front = front(&cluster, &inference).await?;
    let preloader = preloader(&cluster).await?;

    all(&cluster, &other_client, &guarded, true).await?;
    all(&cluster, &preloader, &front, true).await?;
    let policies = Policies::apply(&cluster, &inference).await?;
    let held = hold(&cluster, &inference, &other_client, &monitoring_client).await;
    // Also after a failure: the next scenario expects no policies.
    policies.delete(&cluster).await?;
    held?;
    all(&cluster, &other_client, &self::guarded(&cluster, &inference).await?, true).await?;
    for namespace in [inference, other, monitoring] {
        namespace.remove().await?;
    }
    Ok(())
}

/// Checks what must hold while the policies are there.
async fn hold(cluster: &Cluster, inference: &Namespace, other: &Client, monitoring: &Client) -> Result<()> {
    all(cluster, other, &guarded(cluster, inference).await?, false).await?;
    // Everything that a start needs works: programs reach the API server, take their Leases and publish slices, and the
    // webhook gets its certificate.
    install::restart(cluster.workdir()).await?;
    let guarded = guarded(cluster, inference).await?;
    all(cluster, other, &guarded, false).await?;
    let (admin, model): (Vec<Port>, Vec<Port>) =
        guarded.into_iter().partition(|port| port.number != MODEL_PORT);
    all(cluster, monitoring, &admin, true).await?;
    all(cluster, monitoring, &model, false).await?;
    // Clients of the model are let in by the front port, Sluice's own programs are not.
    all(cluster, other, &front(cluster, inference).await?, true).await?;
    all(cluster, &preloader(cluster).await?, &front(cluster, inference).await?, false).await?;
    scales(cluster, inference).await?;
    // What the webhook injected just now is guarded like what was there before.
    all(cluster, other, &self::guarded(cluster, inference).await?, false).await
}

/// Under load the sample gets another replica: its batchers are read, the webhook and the gate work, a slice is cut.
async fn scales(cluster: &Cluster, inference: &Namespace) -> Result<()> {
    let target = sample::address(inference).await?;
    let arguments = ["--rate-rps", TOO_MUCH_RPS, "--duration-ms", "60000", "--timeout-ms", "30000"];
    let mut load = Load::start(cluster, &target, &arguments)?;
    let scaled = cluster
        .wait_for("a second replica is ready", WITHIN, || async {
            let found = pods::list(cluster, inference.name, PODS).await?;
            let ready = found.iter().filter(|pod| pods::is(pod, "Ready")).count();
            let seen = format!("{} pods, {ready} ready", found.len());
            Ok(if ready >= 2 { Look::Done(found) } else { Look::NotYet(seen) })
        })
        .await?;
    let has_sidecar = |pod: &Pod| {
        let init = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_ref());
        init.is_some_and(|init| init.iter().any(|container| container.name == names::SIDECAR))
    };
    ensure!(scaled.iter().all(has_sidecar), "a pod has no sidecar");
    ensure!(load.is_running()?, "the load has ended before the second replica was ready");
    let report = load.finish().await?;
    ensure!(report["lost"] == 0, "requests were lost: {report}");
    let fresh = "jsonpath={.status.conditions[?(@.type==\"MetricsFresh\")].status}";
    let autoscaler = format!("inferenceautoscaler/{NAME}");
    cluster
        .wait_for("metrics are fresh", FOLLOWED_WITHIN, || async {
            let found = inference.kubectl(&["get", &autoscaler, "-o", fresh]).await?;
            Ok(if found == "True" { Look::Done(()) } else { Look::NotYet(found) })
        })
        .await
}

/// Waits until each port is as it should be for this client: open, or shut.
async fn all(cluster: &Cluster, client: &Client, ports: &[Port], open: bool) -> Result<()> {
    // Side by side: where packets are dropped, each attempt lasts until its timeout.
    let waits = ports.iter().map(|port| async move {
        let state = if open { "open" } else { "shut" };
        let what = format!("for {} the {} (port {}) is {state}", client.who, port.what, port.number);
        cluster
            .wait_for(&what, FOLLOWED_WITHIN, || async {
                let is_open = pods::can_connect(client.process, &port.address, port.number).await?;
                Ok(if is_open == open { Look::Done(()) } else { Look::NotYet(format!("open: {is_open}")) })
            })
            .await
    });
    futures::future::try_join_all(waits).await.map(drop)
}

/// Creates a pod from which to connect; what it runs does not matter.
async fn client(cluster: &Cluster, namespace: &Namespace, who: &'static str) -> Result<Client> {
    namespace.apply(&cluster_works::model().to_string()).await?;
    namespace.wait_rollout("deployment/model", WITHIN).await?;
    let pod = pods::only(cluster, namespace.name, "app=model").await?;
    Ok(Client { who, process: pods::process(&pod, "sluice-loadtest", "")? })
}

/// Returns a current preloader pod as a client.
async fn preloader(cluster: &Cluster) -> Result<Client> {
    let pods = pods::list(cluster, SYSTEM_NAMESPACE, "app.kubernetes.io/name=sluice-preloader").await?;
    let pod = pods.first().context("no preloader is there")?;
    Ok(Client { who: "a preloader", process: pods::process(pod, "sluice-preloader", "")? })
}

/// Returns the current ports that are not for all clients.
async fn guarded(cluster: &Cluster, inference: &Namespace) -> Result<Vec<Port>> {
    let mut ports = Vec::new();
    for (program, number) in ADMIN_PORTS {
        let label = format!("app.kubernetes.io/name={program}");
        for pod in pods::list(cluster, SYSTEM_NAMESPACE, &label).await? {
            ports.push(Port::of(&pod, "admin port", number)?);
        }
        ensure!(ports.iter().any(|port| port.number == number), "no pod of {program} is there");
    }
    for pod in pods::list(cluster, inference.name, PODS).await? {
        ports.push(Port::of(&pod, "sidecar's admin port", names::ADMIN_PORT)?);
        ports.push(Port::of(&pod, "model's own port", MODEL_PORT)?);
    }
    Ok(ports)
}

/// Returns the ports that clients use.
async fn front(cluster: &Cluster, inference: &Namespace) -> Result<Vec<Port>> {
    let pods = pods::list(cluster, inference.name, PODS).await?;
    pods.iter().map(|pod| Port::of(pod, "front port", names::FRONT_PORT)).collect()
}

/// Shipped policies that were applied and have to be deleted.
struct Policies {
    files: Vec<String>,
}

impl Policies {
    /// Applies the policies of Sluice's namespace, and the sample policies for users' namespaces.
    async fn apply(cluster: &Cluster, inference: &Namespace) -> Result<Self> {
        let manifests = cluster.workdir().spec()?.manifests.context("Sluice is not installed")?;
        let folder = manifests.join("../network-policy");
        let files = resources(&folder)?;
        for file in &files {
            cluster.kubectl(&["apply", "-f", file]).await?;
        }
        let sample = manifests.join("../samples/network-policy.yaml");
        let sample = std::fs::read_to_string(&sample).with_context(|| sample.display().to_string())?;
        inference.apply(&sample).await?;
        Ok(Self { files })
    }

    async fn delete(self, cluster: &Cluster) -> Result<()> {
        for file in &self.files {
            cluster.kubectl(&["delete", "--ignore-not-found", "-f", file]).await?;
        }
        cluster.kubectl(&["delete", "networkpolicies", "--all", "-n", "network"]).await.map(drop)
    }
}

/// Returns the paths of a kustomization's resources.
fn resources(folder: &Path) -> Result<Vec<String>> {
    let path = folder.join("kustomization.yaml");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let kustomization: Value = serde_saphyr::from_str(&text).with_context(|| path.display().to_string())?;
    let Some(named) = kustomization["resources"].as_array() else {
        bail!("{} names no resources", path.display())
    };
    let paths = named.iter().map(|name| {
        let path = folder.join(name.as_str().context("the name of a resource is not text")?);
        Ok(path.to_str().context("the path of the manifests is not text")?.to_owned())
    });
    paths.collect()
}
