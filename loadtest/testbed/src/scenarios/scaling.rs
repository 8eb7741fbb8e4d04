//! Replicas follow the load, as far as there are slices, and stay what they are while measurements are missing.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sluice_config::names::{SYSTEM_NAMESPACE, pod as names};

use super::conditions::{condition, wait_condition};
use super::sample::{self, NAME, PODS, Sample};
use super::{Namespace, pods, request};
use crate::addresses;
use crate::cluster::{Cluster, Look};
use crate::traffic::cut::Cut;
use crate::traffic::load::Load;

/// How long the sample may take to serve.
const SERVES_WITHIN: Duration = Duration::from_secs(120);
/// How long a condition or a change of replicas may take.
const WITHIN: Duration = Duration::from_secs(90);
/// Window of scale-down where a scenario waits for it, seconds.
const SOON_S: u32 = 10;
/// Window of scale-down where a scenario must not see one, seconds.
const NOT_SOON_S: u32 = 300;
/// Slices of the sample's profile that the node's two GPUs have.
const SLICES: usize = 6;
/// Label of the autoscaler's pods.
const AUTOSCALER_PODS: &str = "app.kubernetes.io/name=sluice-autoscaler";
/// The autoscaler's Deployment.
const AUTOSCALER_DEPLOYMENT: &str = "deployment/sluice-autoscaler";

/// Returns the sample with a given delay of scale-down after the load has fallen, in seconds.
async fn start(cluster: &Cluster, name: &'static str, window_s: u32) -> Result<(Namespace, String)> {
    let namespace = Namespace::create(cluster, name).await?;
    let mut sample = Sample::read(cluster)?;
    sample.object("InferenceAutoscaler")?["spec"]["behavior"] =
        json!({ "scaleDown": { "stabilizationWindowSeconds": window_s } });
    sample.start(&namespace, SERVES_WITHIN).await?;
    let target = sample::address(&namespace).await?;
    sample::wait_reachable(cluster, &target).await?;
    Ok((namespace, target))
}

/// Sends at a constant rate for a number of seconds, in runs of a few seconds: new connections find new pods.
async fn send(cluster: &Cluster, target: &str, rate_rps: u32, seconds: u32) -> Result<Vec<Value>> {
    const RUN_S: u32 = 5;
    let rate = rate_rps.to_string();
    let mut reports = Vec::new();
    for _ in 0..seconds.div_ceil(RUN_S) {
        let arguments = [
            "--protocol",
            "rest-json=1,grpc=1",
            "--rate-rps",
            &rate,
            "--duration-ms",
            "5000",
            "--connections",
            "32",
            "--timeout-ms",
            "30000",
        ];
        reports.push(Load::start(cluster, target, &arguments)?.finish().await?);
    }
    Ok(reports)
}

/// Returns the sum of a count over reports.
fn sum(reports: &[Value], count: &str) -> u64 {
    reports.iter().filter_map(|report| report[count].as_u64()).sum()
}

async fn replicas(namespace: &Namespace) -> Result<usize> {
    let found =
        namespace.kubectl(&["get", &format!("deployment/{NAME}"), "-o", "jsonpath={.spec.replicas}"]).await?;
    found.parse().with_context(|| format!("replicas {found:?}"))
}

async fn wait_replicas(
    cluster: &Cluster,
    namespace: &Namespace,
    what: &str,
    is: impl Fn(usize) -> bool,
) -> Result<()> {
    cluster
        .wait_for(what, WITHIN, || async {
            let found = replicas(namespace).await?;
            Ok(if is(found) { Look::Done(()) } else { Look::NotYet(format!("{found} replicas")) })
        })
        .await
}

/// Load steps up within the free slices, then beyond them, then down.
pub(super) async fn follows_load(cluster: Cluster) -> Result<()> {
    let (namespace, target) = start(&cluster, "follows-load", SOON_S).await?;
    let observer = pods::Observer::start(&cluster, namespace.name, PODS);
    let mut reports = send(&cluster, &target, 30, 10).await?;
    ensure!(replicas(&namespace).await? <= 2, "{} replicas for a light load", replicas(&namespace).await?);

    reports.extend(send(&cluster, &target, 220, 30).await?);
    let grown = replicas(&namespace).await?;
    ensure!((3..=SLICES).contains(&grown), "{grown} replicas for a load that needs at least 3");

    // More than the slices can serve: the excess is rejected explicitly, and no pod is requested in vain.
    let overload = send(&cluster, &target, 800, 30).await?;
    ensure!(sum(&overload, "rejected") > 0, "nothing was refused beyond the slices' limit");
    let retry = refusal_header(&cluster, &target).await?;
    ensure!(retry.is_some_and(|seconds| seconds > 0), "a refusal has no Retry-After: {retry:?}");
    let limited = condition(&namespace, "CapacityLimited").await?;
    ensure!(limited.starts_with("True") && limited.contains("2g.10gb"), "CapacityLimited is {limited:?}");
    reports.extend(overload);
    ensure!(replicas(&namespace).await? <= SLICES, "{} replicas are asked for", replicas(&namespace).await?);

    // Light load meanwhile: scale-down loses nothing either.
    // The burst counts in the demand for a minute, and the window of scale-down comes after that.
    let mut left = SLICES;
    for _ in 0..30 {
        reports.extend(send(&cluster, &target, 20, 5).await?);
        left = replicas(&namespace).await?;
        if left < grown {
            break;
        }
    }
    ensure!(left < grown, "{left} replicas are left when the load has fallen, of {grown}");
    let (lost, failed, requests) =
        (sum(&reports, "lost"), sum(&reports, "failed"), sum(&reports, "requests"));
    ensure!(lost == 0 && failed == 0, "{lost} of {requests} requests were lost, {failed} failed");
    let (longest, pod) = observer.seen().unschedulable;
    ensure!(longest <= Duration::from_secs(5), "pod {pod} was Unschedulable for {} ms", longest.as_millis());
    namespace.remove().await
}

/// Makes an overload and returns the `Retry-After` of a rejection.
async fn refusal_header(cluster: &Cluster, target: &str) -> Result<Option<u64>> {
    let mut load =
        Load::start(cluster, target, &["--rate-rps", "800", "--duration-ms", "6000", "--connections", "32"])?;
    let mut found = None;
    while load.is_running()? {
        let answer = request::infer(target).await?;
        if answer.starts_with("HTTP/1.1 429") {
            let header = answer
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("retry-after: ").map(str::to_owned));
            found = header.and_then(|seconds| seconds.trim().parse().ok());
            break;
        }
    }
    load.finish().await?;
    Ok(found)
}

/// Returns the holder of the autoscaler's Lease.
async fn leader(cluster: &Cluster) -> Result<String> {
    let holder = [
        "-n",
        SYSTEM_NAMESPACE,
        "get",
        "lease",
        "sluice-autoscaler",
        "-o",
        "jsonpath={.spec.holderIdentity}",
    ];
    cluster.kubectl(&holder).await
}

/// The leader's pod is killed under a steady load: the other takes over, and replicas stay what they are.
pub(super) async fn leader_killed(cluster: Cluster) -> Result<()> {
    let (namespace, target) = start(&cluster, "leader-killed", NOT_SOON_S).await?;
    // This load needs two of the six slices, three or four while the backlog is served, so that replicas can still
    // grow.
    let steady = async |seconds| send(&cluster, &target, 90, seconds).await;
    let mut reports = steady(30).await?;
    let before = replicas(&namespace).await?;
    ensure!(before >= 2, "{before} replicas for a load that needs two");
    let killed = leader(&cluster).await?;
    cluster
        .kubectl(&["-n", SYSTEM_NAMESPACE, "delete", "pod", &killed, "--force", "--grace-period=0"])
        .await?;
    let observer = pods::Observer::start(&cluster, namespace.name, PODS);
    reports.extend(steady(40).await?);
    let now = leader(&cluster).await?;
    ensure!(!now.is_empty() && now != killed, "the leader is {now:?}, after {killed} was killed");
    let seen = observer.seen();
    let after = replicas(&namespace).await?;
    // The new leader has no measurements at first, and without measurements it does not scale down.
    ensure!(
        after == before && seen.most == before,
        "{before} replicas before, {after} after, at most {}",
        seen.most
    );
    ensure!(sum(&reports, "lost") == 0, "{} requests were lost", sum(&reports, "lost"));
    // The new leader decides: more load, more replicas.
    reports = send(&cluster, &target, 400, 20).await?;
    let grown = replicas(&namespace).await?;
    ensure!(grown > before, "the new leader left it at {before} replicas when the load grew");
    ensure!(sum(&reports, "lost") == 0, "{} requests were lost", sum(&reports, "lost"));
    cluster.wait_rollout(SYSTEM_NAMESPACE, AUTOSCALER_DEPLOYMENT, WITHIN).await?;
    namespace.remove().await
}

/// Direct scrapes are cut: Prometheus has the same numbers. When Prometheus stops too, replicas are held and a
/// condition says so.
pub(super) async fn metrics_lost(cluster: Cluster) -> Result<()> {
    let url = format!("SLUICE_AUTOSCALER_PROMETHEUS_URL=http://{}:9090", addresses::NODE);
    let set = async |variable: &str| {
        cluster.kubectl(&["-n", SYSTEM_NAMESPACE, "set", "env", AUTOSCALER_DEPLOYMENT, variable]).await?;
        cluster.wait_rollout(SYSTEM_NAMESPACE, AUTOSCALER_DEPLOYMENT, SERVES_WITHIN).await
    };
    set(&url).await?;
    let result = metrics_lost_with_prometheus(&cluster).await;
    let control = cluster.control();
    tokio::task::spawn_blocking(move || control.start("prometheus")).await??;
    set("SLUICE_AUTOSCALER_PROMETHEUS_URL-").await?;
    result
}

async fn metrics_lost_with_prometheus(cluster: &Cluster) -> Result<()> {
    let (namespace, target) = start(cluster, "metrics-lost", SOON_S).await?;
    let mut reports = send(cluster, &target, 30, 15).await?;
    wait_condition(cluster, &namespace, "MetricsFresh", "True", WITHIN).await?;
    let few = replicas(&namespace).await?;

    let mut cuts = Vec::new();
    for pod in pods::list(cluster, SYSTEM_NAMESPACE, AUTOSCALER_PODS).await? {
        cuts.push(Cut::new(&pods::address(&pod)?, addresses::PODS, Some(names::ADMIN_PORT))?);
    }
    reports.extend(send(cluster, &target, 220, 45).await?);
    let grown = replicas(&namespace).await?;
    ensure!(grown > few && grown >= 3, "{few} replicas grew to {grown} with Prometheus as the only source");

    let control = cluster.control();
    tokio::task::spawn_blocking(move || control.stop("prometheus")).await??;
    let said = wait_condition(cluster, &namespace, "MetricsFresh", "False", WITHIN).await?;
    // Past the window of scale-down and of staleness, without any load.
    tokio::time::sleep(Duration::from_secs(45)).await;
    let held = replicas(&namespace).await?;
    ensure!(held >= grown, "{grown} replicas became {held} while measurements were missing ({said})");

    cuts.into_iter().try_for_each(Cut::end)?;
    wait_condition(cluster, &namespace, "MetricsFresh", "True", WITHIN).await?;
    wait_replicas(cluster, &namespace, "it scales down when it knows again", |found| found < held).await?;
    ensure!(sum(&reports, "lost") == 0, "{} requests were lost", sum(&reports, "lost"));
    namespace.remove().await
}
