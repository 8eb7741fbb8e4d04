//! Several devices in one container, one claim of several pods, and GPUs that fail under their pods.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nvidia_ml::{Fault, When};
use serde_json::{Value, json};
use sluice_config::names::{devices::class_of_profile, env};

use super::slices::{GATE, wait_instances, wait_running};
use super::{Namespace, pods};
use crate::cluster::{Cluster, Look};
use crate::images;
use crate::node::components::NODE_NAME;
use crate::node::simulated_gpus;

/// Time within which a pod whose GPU is lost must be gone, and a pod must run after the kubelet is back.
const SECONDS: Duration = Duration::from_secs(15);

/// Returns a pod of one container that has these fields beside its image.
fn pod(name: &str, claims: &Value, resources: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "resourceClaims": claims,
            "containers": [{
                "name": "model",
                "image": images::reference("sluice-loadtest"),
                "args": ["model"],
                "resources": resources,
            }],
        },
    })
}

fn request(name: &str, profile: &str) -> Value {
    json!({ "name": name, "exactly": { "deviceClassName": class_of_profile(profile) } })
}

fn claim(name: &str, requests: &[Value]) -> Value {
    json!({
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": { "name": name },
        "spec": { "devices": { "requests": requests } },
    })
}

fn list(items: &[Value]) -> String {
    json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string()
}

/// Returns the pod `one` with a claim of one slice.
pub(crate) fn pod_with_slice() -> String {
    let claims = json!([{ "name": "slice", "resourceClaimName": "slice" }]);
    list(&[
        claim("slice", &[request("slice", "2g.10gb")]),
        pod("one", &claims, &json!({ "claims": [{ "name": "slice" }] })),
    ])
}

/// Returns the pods `one` and `two` with one claim of one slice.
pub(crate) fn two_pods_with_one_slice() -> String {
    let claims = json!([{ "name": "shared", "resourceClaimName": "shared" }]);
    let resources = json!({ "claims": [{ "name": "shared" }] });
    list(&[
        claim("shared", &[request("slice", "2g.10gb")]),
        pod("one", &claims, &resources),
        pod("two", &claims, &resources),
    ])
}

/// Checks the UUIDs and capabilities that the container gets: those of both instances, and no variable that hides one.
async fn sees_both(cluster: &Cluster, namespace: &Namespace, name: &str) -> Result<()> {
    wait_running(namespace, name).await?;
    let found = wait_instances(cluster, 2).await?;
    let pod = pods::only(cluster, namespace.name, &format!("app={name}")).await?;
    let model = pods::process(&pod, "sluice-loadtest", "model")?;
    let environment = fs::read(format!("/proc/{}/environ", model.pid))?;
    let variables: Vec<String> =
        environment.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned()).collect();
    let told: BTreeSet<&str> = variables
        .iter()
        .filter(|variable| variable.starts_with(env::UUID_PREFIX))
        .filter_map(|variable| variable.split_once('=').map(|(_, uuid)| uuid))
        .collect();
    let made =
        found.iter().flat_map(|instance| instance.compute_instances.iter().map(|(_, uuid)| uuid.as_str()));
    ensure!(told == made.collect(), "the container is told {told:?}, there is {found:?}");
    ensure!(!variables.iter().any(|variable| variable.starts_with("CUDA_VISIBLE_DEVICES=")), "{variables:?}");
    let capabilities = fs::read_dir(pods::root(model).join("dev/nvidia-caps"))?.count();
    ensure!(capabilities == 4, "the container has {capabilities} capabilities, not two of each instance");
    Ok(())
}

/// Two claims, two requests of one, and two extended resources: the container sees both.
pub(super) async fn two_in_one_container(cluster: Cluster) -> Result<()> {
    let namespace = Namespace::create(&cluster, "two-in-one-container").await?;
    wait_instances(&cluster, 0).await?;
    let (small, large) = (request("small", "1g.5gb"), request("large", "2g.10gb"));
    let by_name = |name: &str| json!({ "name": name, "resourceClaimName": name });
    let claims = [
        claim("one", std::slice::from_ref(&small)),
        claim("two", std::slice::from_ref(&large)),
        pod(
            "claims",
            &json!([by_name("one"), by_name("two")]),
            &json!({ "claims": [{ "name": "one" }, { "name": "two" }] }),
        ),
    ];
    let requests = [
        claim("both", &[small, large]),
        pod("requests", &json!([by_name("both")]), &json!({ "claims": [{ "name": "both" }] })),
    ];
    let extended = [pod(
        "extended",
        &json!([]),
        &json!({ "limits": { "gpu.sluice.dev/mig-1g-5gb": 1, "gpu.sluice.dev/mig-2g-10gb": 1 } }),
    )];
    for (name, objects) in [("claims", &claims[..]), ("requests", &requests), ("extended", &extended)] {
        namespace.apply(&list(objects)).await?;
        sees_both(&cluster, &namespace, name).await.with_context(|| format!("pod {name}"))?;
        namespace.kubectl(&["delete", "pod", name]).await?;
        wait_instances(&cluster, 0).await?;
    }
    namespace.remove().await
}

/// Two pods of one claim start together, although the first prepare takes a while.
pub(super) async fn two_pods_one_claim(cluster: Cluster) -> Result<()> {
    let namespace = Namespace::create(&cluster, "two-pods-one-claim").await?;
    wait_instances(&cluster, 0).await?;
    let gpus = simulated_gpus::open(cluster.workdir())?;
    gpus.add_fault(GATE, &Fault::block("nvmlDeviceCreateGpuInstanceWithPlacement", When::Before))?;
    namespace.apply(&two_pods_with_one_slice()).await?;
    let waiting = gpus.clone();
    let blocked =
        tokio::task::spawn_blocking(move || waiting.wait_blocked(GATE, Duration::from_secs(60))).await?;
    // Long enough for the second pod's call to arrive.
    tokio::time::sleep(Duration::from_secs(5)).await;
    gpus.remove_fault(GATE)?;
    blocked?;
    let begin = Instant::now();
    wait_running(&namespace, "one").await?;
    wait_running(&namespace, "two").await?;
    ensure!(begin.elapsed() <= SECONDS, "both pods ran after {:?}", begin.elapsed());
    wait_instances(&cluster, 1).await?;
    namespace.kubectl(&["delete", "pod", "one", "two"]).await?;
    wait_instances(&cluster, 0).await?;
    namespace.remove().await
}

/// A GPU falls off the bus under a pod: the pod is gone in seconds, an event says why, and nothing new is placed
/// there; after a reset it is offered again.
pub(super) async fn gpu_lost(cluster: Cluster) -> Result<()> {
    let namespace = Namespace::create(&cluster, "gpu-lost").await?;
    wait_instances(&cluster, 0).await?;
    namespace.apply(&pod_with_slice()).await?;
    wait_running(&namespace, "one").await?;
    let lost = wait_instances(&cluster, 1).await?[0].gpu;
    let gpus = simulated_gpus::open(cluster.workdir())?;
    gpus.lose_gpu(lost)?;
    let result = lost_under_a_pod(&cluster, &namespace, lost).await;
    gpus.reset_gpu(lost)?;
    result?;
    wait_instances(&cluster, 0).await?;
    namespace.remove().await
}

async fn lost_under_a_pod(cluster: &Cluster, namespace: &Namespace, lost: usize) -> Result<()> {
    let pods = async || namespace.kubectl(&["get", "pods", "-o", "name"]).await;
    cluster
        .wait_for("the pod of the lost GPU is gone", SECONDS * 2, || async {
            let pods = pods().await?;
            Ok(if pods.trim().is_empty() { Look::Done(()) } else { Look::NotYet(pods) })
        })
        .await?;
    let events = namespace.kubectl(&[
        "get",
        "events",
        "-o",
        "jsonpath={range .items[*]}{.reason} {.message}{\"\\n\"}{end}",
    ]);
    let events = events.await?;
    ensure!(events.contains("GPULost") && events.contains("the GPU is lost"), "no event says why: {events}");
    cluster
        .wait_for("the lost GPU is not offered", SECONDS, || async {
            let slices = cluster.kubectl(&["get", "resourceslices", "-o", "json"]).await?;
            let slices: Value = serde_json::from_str(&slices)?;
            let devices = slices["items"].as_array().into_iter().flatten();
            let offered = devices
                .flat_map(|slice| slice["spec"]["devices"].as_array().into_iter().flatten())
                .filter(|device| device["taints"].is_null())
                .filter_map(|device| device["name"].as_str())
                .any(|name| name.starts_with(&format!("gpu-{lost}-")));
            Ok(if offered { Look::NotYet("it is".to_owned()) } else { Look::Done(()) })
        })
        .await
}

/// The kubelet is killed while the driver prepares: the pod runs soon after it is back.
pub(super) async fn kubelet_killed_in_prepare(cluster: Cluster) -> Result<()> {
    let namespace = Namespace::create(&cluster, "kubelet-killed").await?;
    wait_instances(&cluster, 0).await?;
    let gpus = simulated_gpus::open(cluster.workdir())?;
    gpus.add_fault(GATE, &Fault::block("nvmlDeviceCreateGpuInstanceWithPlacement", When::After))?;
    namespace.apply(&pod_with_slice()).await?;
    let waiting = gpus.clone();
    let blocked =
        tokio::task::spawn_blocking(move || waiting.wait_blocked(GATE, Duration::from_secs(60))).await?;
    let control = cluster.control();
    let crashed = tokio::task::spawn_blocking(move || control.crash("kubelet")).await?;
    let back = cluster.wait_node(NODE_NAME, Duration::from_secs(60)).await;
    gpus.remove_fault(GATE)?;
    blocked?;
    crashed?;
    back?;
    let begin = Instant::now();
    wait_running(&namespace, "one").await?;
    ensure!(begin.elapsed() <= SECONDS, "the pod ran {:?} after the kubelet was back", begin.elapsed());
    wait_instances(&cluster, 1).await?;
    namespace.kubectl(&["delete", "pod", "one"]).await?;
    wait_instances(&cluster, 0).await?;
    namespace.remove().await
}

/// The node boots without NVIDIA's driver, which comes later: the driver serves, says what it waits for, and then runs
/// the pod that waited.
pub(super) async fn driver_absent_at_boot(cluster: Cluster) -> Result<()> {
    let namespace = Namespace::create(&cluster, "driver-absent").await?;
    wait_instances(&cluster, 0).await?;
    let gpus = simulated_gpus::open(cluster.workdir())?;
    let library = gpus.library();
    let hidden = library.with_extension("hidden");
    fs::rename(&library, &hidden)?;
    let system = ["-n", sluice_config::names::SYSTEM_NAMESPACE];
    let restarted = cluster
        .kubectl(&[&["delete", "pod", "-l", "app.kubernetes.io/name=sluice-driver"][..], &system].concat())
        .await;
    // A reboot as far as the GPUs are concerned: no instance outlives it.
    gpus.reboot()?;
    let said = cluster
        .wait_for("the driver says what it waits for", Duration::from_secs(60), || async {
            let log = cluster.kubectl(&[&["logs", "daemonset/sluice-driver"][..], &system].concat()).await;
            let log = log.unwrap_or_default();
            Ok(if log.contains("libnvidia-ml.so.1") { Look::Done(()) } else { Look::NotYet(log) })
        })
        .await;
    fs::rename(&hidden, &library)?;
    restarted?;
    said?;
    namespace.apply(&pod_with_slice()).await?;
    wait_running(&namespace, "one").await?;
    namespace.kubectl(&["delete", "pod", "one"]).await?;
    wait_instances(&cluster, 0).await?;
    namespace.remove().await
}
