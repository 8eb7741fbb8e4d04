//! A target behind a gateway: no replica runs without requests, the first request waits for the first replica, and
//! later ones are merged by the gateway and sent to a replica that is free.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::sample::{self, Journal, Sample};
use super::{Namespace, pods};
use crate::cluster::{Cluster, Look};
use crate::traffic::load::Load;

/// Name of the target in the sample.
const TARGET: &str = "bert";
/// Label selector of the target's pods.
const PODS: &str = "app=bert";
/// Name of the target's gateway, and of the Service that clients call.
const GATEWAY: &str = "bert-gateway";
/// Time within which the gateway must be ready, and the replicas must have the expected number.
const WITHIN: Duration = Duration::from_secs(120);
/// Time without a request after which the last replica is removed, seconds.
const IDLE_S: u32 = 12;
/// Timeout of a request: longer than the gateway holds one.
const TIMEOUT_MS: &str = "150000";
/// Load that needs more than one replica, in requests per second.
const RATE_RPS: &str = "120";

/// The target scales from zero to a first answer, through load, and back to zero; no request is lost.
pub(super) async fn from_zero_and_back(cluster: Cluster) -> Result<()> {
    let namespace = Namespace::create(&cluster, "gateway").await?;
    let (sample, gateway) = Sample::with_gateway(&cluster).await?;
    let (mut sample, journal) = sample.replicas(0)?.journal(&cluster, namespace.name)?;
    let spec = &mut sample.object("InferenceAutoscaler")?["spec"];
    ensure!(spec["minReplicas"] == 0, "the sample does not scale to zero: {spec}");
    spec["scaleToZeroIdleSeconds"] = json!(IDLE_S);
    namespace.apply(&json!({ "apiVersion": "v1", "kind": "List", "items": gateway }).to_string()).await?;
    namespace.apply(&sample.list()).await?;
    namespace.wait_rollout(&format!("deployment/{GATEWAY}"), WITHIN).await?;
    let what = "jsonpath={.spec.clusterIP}:{.spec.ports[0].port}";
    let target = namespace.kubectl(&["get", "service", GATEWAY, "-o", what]).await?;
    sample::wait_reachable(&cluster, &target).await?;
    wait_decision(&cluster, &namespace, "Steady").await?;
    ensure!(
        pods::list(&cluster, namespace.name, PODS).await?.is_empty(),
        "a replica runs before the first request"
    );

    let asked = Instant::now();
    let first = ["--rate-rps", "4", "--duration-ms", "1000", "--timeout-ms", TIMEOUT_MS];
    let first = Load::start(&cluster, &target, &first)?.finish().await?;
    ensure!(first["requests"].as_u64() > Some(0) && first["answered"] == first["requests"], "held: {first}");
    println!("the first requests were answered {} ms after they arrived", asked.elapsed().as_millis());
    ensure!(
        pods::list(&cluster, namespace.name, PODS).await?.len() == 1,
        "exactly one replica was to start from zero"
    );
    wait_decision(&cluster, &namespace, "FromZero").await?;

    let mixed = [
        "--protocol",
        "rest-json=1,rest-binary=1,grpc=1",
        "--first-id",
        "1000000",
        "--rate-rps",
        RATE_RPS,
        "--duration-ms",
        "30000",
        "--timeout-ms",
        TIMEOUT_MS,
    ];
    let observer = pods::Observer::start(&cluster, namespace.name, PODS);
    let load = Load::start(&cluster, &target, &mixed)?.finish().await?;
    let (lost, failed) = (&load["lost"], &load["failed"]);
    ensure!(
        *lost == 0 && *failed == 0,
        "{lost} were lost and {failed} failed of {}: {load}",
        load["requests"]
    );
    // How many requests are rejected until there are enough replicas depends on the machine's speed.
    ensure!(load["answered"].as_u64() > Some(0), "no request was answered: {load}");
    ensure!(observer.seen().most > 1, "{RATE_RPS} requests a second need more than one replica");

    cluster
        .wait_for("the last replica goes", WITHIN, || async {
            let left = pods::list(&cluster, namespace.name, PODS).await?.len();
            Ok(if left == 0 { Look::Done(()) } else { Look::NotYet(format!("{left} pods")) })
        })
        .await?;
    wait_decision(&cluster, &namespace, "ToZero").await?;
    assert_merged_once(&journal)?;
    journal.assert_no_cold_request(2)?;
    namespace.remove().await
}

/// Waits until a decision of the autoscaler has this reason.
async fn wait_decision(cluster: &Cluster, namespace: &Namespace, reason: &str) -> Result<()> {
    let what = "jsonpath={range .status.decisions[*]}{.reason}{\"\\n\"}{end}{.status.conditions}";
    cluster
        .wait_for(&format!("a decision {reason}"), WITHIN, || async {
            let told =
                namespace.kubectl(&["get", &format!("inferenceautoscaler/{TARGET}"), "-o", what]).await?;
            let found = told.lines().any(|line| line == reason);
            Ok(if found { Look::Done(()) } else { Look::NotYet(told) })
        })
        .await
}

/// Checks that the gateway formed the batches, and that every row was computed once: no process died, so nothing was
/// sent again.
fn assert_merged_once(journal: &Journal) -> Result<()> {
    let pods = journal.pods()?;
    let clients: Vec<_> = pods.iter().flat_map(|(_, calls)| calls).filter(|call| call.is_clients()).collect();
    let largest = clients.iter().map(|call| call.ids.len()).max().context("no call of a client")?;
    ensure!(largest > 1, "no two requests of {} calls shared a batch", clients.len());
    let mut ids: Vec<i64> = clients.iter().flat_map(|call| call.ids.iter().copied()).collect();
    let rows = ids.len();
    ids.sort_unstable();
    ids.dedup();
    ensure!(ids.len() == rows, "{} rows were computed more than once", rows - ids.len());
    Ok(())
}
