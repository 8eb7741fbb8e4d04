//! The sample serves: gated, placed, warmed, batched; and no request is lost when its pods come and go.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use sluice_config::names::pod as names;

use super::sample::{self, PODS, Sample};
use super::{Namespace, pods};
use crate::cluster::{Cluster, Look};
use crate::images;
use crate::node::simulated_gpus;
use crate::traffic::load::Load;

/// How long the sample may take to serve.
const SERVES_WITHIN: Duration = Duration::from_secs(120);
/// Clients that are tried until one is led to a certain pod of two.
const MOST_NEW_CLIENTS: usize = 20;
/// Most requests are answered in a fraction of a second; only one that hangs takes longer.
const TIMEOUT_MS: &str = "60000";

/// The sample works as its file promises, from the gate to the merged batch.
pub(super) async fn serves(cluster: Cluster) -> Result<()> {
    let namespace = Namespace::create(&cluster, "serves").await?;
    let (mut sample, journal) = Sample::read(&cluster)?.journal(&cluster, namespace.name)?;
    injected(&namespace, &mut sample).await?;
    sample.start(&namespace, SERVES_WITHIN).await?;
    lifted(&cluster, &namespace).await?;
    let found = simulated_gpus::open(cluster.workdir())?.instances()?;
    ensure!(found.len() == 1 && found[0].profile == "2g.10gb", "one 2g.10gb is in use, not {found:?}");
    model_is_alone(&cluster, &namespace).await?;
    merged(&cluster, &namespace, &journal).await?;
    journal.assert_no_cold_request(1)?;
    namespace.remove().await
}

/// Checks the pod that the API server would store for the sample: gate and sidecar are injected.
async fn injected(namespace: &Namespace, sample: &mut Sample) -> Result<()> {
    let template = sample.object("Deployment")?["spec"]["template"].clone();
    let mut pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"] });
    pod["metadata"]["name"] = json!("injected");
    pod["spec"].as_object_mut().context("a pod")?.remove("schedulingGates");
    let shown = namespace.dry_run(&pod.to_string()).await?;
    let gates: Vec<&Value> = shown["spec"]["schedulingGates"].as_array().into_iter().flatten().collect();
    ensure!(gates.iter().any(|gate| gate["name"] == names::GATE), "the gate is not injected: {gates:?}");
    let sidecars = shown["spec"]["initContainers"].as_array().into_iter().flatten();
    let sidecar = sidecars.into_iter().find(|container| container["name"] == names::SIDECAR);
    let sidecar = sidecar.context("the sidecar is not injected")?;
    ensure!(sidecar["restartPolicy"] == "Always", "the sidecar is no native sidecar: {sidecar}");
    Ok(())
}

/// Waits for the preloader's event that the gate is lifted.
async fn lifted(cluster: &Cluster, namespace: &Namespace) -> Result<()> {
    let what = "jsonpath={range .items[*]}{.reason}{\"\\n\"}{end}";
    cluster
        .wait_for("an event GateLifted", Duration::from_secs(30), || async {
            let reasons = namespace.kubectl(&["get", "events", "-o", what]).await?;
            Ok(match reasons.lines().any(|reason| reason == "GateLifted") {
                true => Look::Done(()),
                false => Look::NotYet(reasons),
            })
        })
        .await
}

/// Checks that another pod reaches the sidecar and not the model.
async fn model_is_alone(cluster: &Cluster, namespace: &Namespace) -> Result<()> {
    let stranger = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "stranger", "labels": { "app": "stranger" } },
        "spec": { "terminationGracePeriodSeconds": 1, "containers": [{
            "name": "stranger",
            "image": images::reference("sluice-loadtest"),
            "args": ["model"],
            "env": [{ "name": sluice_config::names::env::PROFILE, "value": "full" }],
        }]},
    });
    namespace.apply(&stranger.to_string()).await?;
    namespace.kubectl(&["wait", "--for=condition=Ready", "pod/stranger", "--timeout=60s"]).await?;
    let stranger = pods::only(cluster, namespace.name, "app=stranger").await?;
    let stranger = pods::process(&stranger, "sluice-loadtest", "model")?;
    let address = pods::address(&pods::only(cluster, namespace.name, PODS).await?)?;
    ensure!(
        pods::can_connect(stranger, &address, names::FRONT_PORT).await?,
        "the sidecar cannot be reached at {address}"
    );
    ensure!(
        !pods::can_connect(stranger, &address, 9000).await?,
        "the model's own port can be reached at {address}"
    );
    Ok(())
}

/// Checks that rows of REST and of gRPC clients, through the Service, are merged into one call of the model.
async fn merged(cluster: &Cluster, namespace: &Namespace, journal: &sample::Journal) -> Result<()> {
    const REST: i64 = 1_000_000;
    const GRPC: i64 = 2_000_000;
    let target = sample::address(namespace).await?;
    sample::wait_reachable(cluster, &target).await?;
    // By a schedule: two closed loops would take turns.
    let load = |protocol, first: i64| {
        let first = first.to_string();
        let arguments =
            ["--protocol", protocol, "--first-id", &first, "--rate-rps", "20", "--duration-ms", "5000"];
        Load::start(cluster, &target, &arguments)
    };
    let (rest, grpc) = (load("rest-json", REST)?, load("grpc", GRPC)?);
    for report in [rest.finish().await?, grpc.finish().await?] {
        assert_all_right(&report)?;
        ensure!(report["answered"].as_u64() > Some(0), "nothing was answered: {report}");
    }
    let pods = journal.pods()?;
    let both = |ids: &[i64]| {
        let is_grpc = |id: &&i64| **id >= GRPC;
        let is_rest = |id: &&i64| (REST..GRPC).contains(*id);
        ids.iter().any(|id| is_grpc(&id)) && ids.iter().any(|id| is_rest(&id))
    };
    let calls = pods.iter().flat_map(|(_, calls)| calls);
    ensure!(calls.into_iter().any(|call| both(&call.ids)), "no call of the model has rows of both protocols");
    Ok(())
}

/// Checks that every request had one right answer, or was rejected explicitly.
fn assert_nothing_lost(report: &Value) -> Result<()> {
    ensure!(report["requests"].as_u64() > Some(0), "nothing was sent: {report}");
    ensure!(report["lost"] == 0, "{} of {} requests were lost: {report}", report["lost"], report["requests"]);
    ensure!(
        report["failed"] == 0,
        "{} of {} requests failed: {report}",
        report["failed"],
        report["requests"]
    );
    Ok(())
}

fn assert_all_right(report: &Value) -> Result<()> {
    assert_nothing_lost(report)?;
    ensure!(
        report["rejected"] == 0,
        "{} of {} requests were refused",
        report["rejected"],
        report["requests"]
    );
    Ok(())
}

/// Two replicas are replaced one after the other while requests arrive.
pub(super) async fn rolling_update(cluster: Cluster) -> Result<()> {
    let namespace = Namespace::create(&cluster, "rolling-update").await?;
    let (sample, journal) = Sample::read(&cluster)?.journal(&cluster, namespace.name)?;
    let sample = sample.without("InferenceAutoscaler").replicas(2)?;
    sample.start(&namespace, SERVES_WITHIN).await?;
    let target = sample::address(&namespace).await?;
    sample::wait_reachable(&cluster, &target).await?;

    let arguments = [
        "--protocol",
        "rest-json=1,rest-binary=1,grpc=1",
        "--rate-rps",
        "60",
        "--duration-ms",
        "45000",
        "--timeout-ms",
        TIMEOUT_MS,
    ];
    let load = Load::start(&cluster, &target, &arguments)?;
    journal.wait_used(&cluster).await?;
    sample::replace_pods(&cluster, &namespace, SERVES_WITHIN).await?;
    assert_nothing_lost(&load.finish().await?)?;
    // Both old and new replicas have served.
    journal.assert_no_cold_request(3)?;
    namespace.remove().await
}

/// A model that hangs is killed by the kubelet's liveness probe, while its sidecar lives on.
pub(super) async fn liveness_kill(cluster: Cluster) -> Result<()> {
    let namespace = Namespace::create(&cluster, "liveness-kill").await?;
    let (sample, journal) = Sample::read(&cluster)?.journal(&cluster, namespace.name)?;
    let mut sample = sample.without("InferenceAutoscaler").replicas(2)?;
    let probe = &mut sample.pod()?["containers"][0]["livenessProbe"];
    ensure!(probe.is_object(), "the sample's model has no liveness probe");
    for (field, seconds) in
        [("periodSeconds", 1), ("failureThreshold", 3), ("terminationGracePeriodSeconds", 8)]
    {
        probe[field] = json!(seconds);
    }
    sample.start(&namespace, SERVES_WITHIN).await?;
    let target = sample::address(&namespace).await?;
    sample::wait_reachable(&cluster, &target).await?;
    let arguments = [
        "--protocol",
        "rest-json=1,grpc=1",
        "--rate-rps",
        "40",
        "--duration-ms",
        "50000",
        "--timeout-ms",
        TIMEOUT_MS,
    ];
    let load = Load::start(&cluster, &target, &arguments)?;
    journal.wait_used(&cluster).await?;

    // The replica that clients' connections lead to, so that requests are in flight.
    let journals = journal.pods()?;
    let busiest =
        journals.iter().max_by_key(|(_, calls)| calls.iter().filter(|call| call.is_clients()).count());
    let (busiest, _) = busiest.context("no model has a journal")?;
    let pods = pods::list(&cluster, namespace.name, PODS).await?;
    let pod = pods.into_iter().find(|pod| pods::name(pod) == busiest).context("the busiest pod is gone")?;
    let (model, sidecar) =
        (pods::process(&pod, "sluice-loadtest", "model")?, pods::process(&pod, "sluice-batcher", "")?);
    ensure!(model.signal(Signal::STOP), "the model had ended");
    let stopped_us = now_us()?;
    let restarted = cluster
        .wait_for("the model runs again", Duration::from_secs(60), || async {
            match pods::process(&pod, "sluice-loadtest", "model") {
                Ok(again) if again != model => Ok(Look::Done(now_us()?)),
                _ => Ok(Look::NotYet("it is the same process, or none".to_owned())),
            }
        })
        .await?;
    pods::wait_ready(&cluster, &namespace, PODS, 2, SERVES_WITHIN).await?;
    ensure!(sidecar.is_alive(), "the sidecar was restarted too");
    assert_nothing_lost(&load.finish().await?)?;

    // The new model's first call is a warm-up, and new clients reach it.
    for _ in 0..MOST_NEW_CLIENTS {
        let client = Load::start(&cluster, &target, &["--rate-rps", "20", "--duration-ms", "1000"])?;
        assert_nothing_lost(&client.finish().await?)?;
        let journals = journal.pods()?;
        let (_, calls) =
            journals.iter().find(|(name, _)| name == pods::name(&pod)).context("no journal of the pod")?;
        let again: Vec<_> = calls.iter().filter(|call| call.t_us > stopped_us).collect();
        if let Some(first) = again.first() {
            ensure!(!first.is_clients(), "a client's request reached the cold model first: {first:?}");
        }
        if again.iter().any(|call| call.is_clients()) {
            return namespace.remove().await;
        }
    }
    bail!("no client's request reached the new model, which ran by {restarted} µs")
}

fn now_us() -> Result<u64> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(u64::try_from(now.as_micros())?)
}
