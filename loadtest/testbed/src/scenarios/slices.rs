//! Slices: created when a pod that claims one starts, unchanged while it runs, deleted after it, whatever dies
//! meanwhile.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use nvidia_ml::{Fault, Instance, When};
use rustix::process::Signal;
use serde_json::{Value, json};
use sluice_config::names::{SYSTEM_NAMESPACE, devices::class_of_profile, env};

use super::{Namespace, pods};
use crate::cluster::{Cluster, Look};
use crate::images;
use crate::node::components::NODE_NAME;
use crate::node::simulated_gpus;
use crate::processes::Identity;

/// Time within which a pod must run, or its slice must be gone. After a failed prepare the kubelet waits for over a
/// minute.
const WITHIN: Duration = Duration::from_secs(180);
/// Label of the driver's pods.
pub(crate) const DRIVER: &str = "app.kubernetes.io/name=sluice-driver";
/// Name of the fault at which the driver is stopped.
pub(crate) const GATE: &str = "gate";

/// Returns a pod with a claim for one slice. What its model (simulated inference) answers does not matter.
fn claiming(name: &str, profile: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaimTemplate",
            "metadata": { "name": name },
            "spec": { "spec": { "devices": { "requests": [
                { "name": "slice", "exactly": { "deviceClassName": class_of_profile(profile) } }
            ]}}},
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": name, "labels": { "app": name } },
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "resourceClaims": [{ "name": "slice", "resourceClaimTemplateName": name }],
                "containers": [{
                    "name": "model",
                    "image": images::reference("sluice-loadtest"),
                    "args": ["model"],
                    "resources": { "claims": [{ "name": "slice" }] },
                }],
            },
        },
    ]})
}

/// Waits until the node's driver is another process than this one, and ready.
pub(crate) async fn wait_driver_back(cluster: &Cluster, before: Identity) -> Result<()> {
    cluster
        .wait_for("the driver runs again", WITHIN, || async {
            let pod = pods::only(cluster, SYSTEM_NAMESPACE, DRIVER).await?;
            Ok(match pods::process(&pod, "sluice-driver", "") {
                Ok(process) if process != before => Look::Done(()),
                _ => Look::NotYet("it does not".to_owned()),
            })
        })
        .await?;
    wait_driver_ready(cluster).await
}

/// Waits until the node's driver is ready.
pub(crate) async fn wait_driver_ready(cluster: &Cluster) -> Result<()> {
    cluster
        .wait_for("the driver is ready", WITHIN, || async {
            let drivers = pods::list(cluster, SYSTEM_NAMESPACE, DRIVER).await?;
            Ok(match drivers.iter().any(|pod| pods::is(pod, "Ready")) {
                true => Look::Done(()),
                false => Look::NotYet(format!("{} pods, none of them ready", drivers.len())),
            })
        })
        .await
}

fn instances(cluster: &Cluster) -> Result<Vec<Instance>> {
    Ok(simulated_gpus::open(cluster.workdir())?.instances()?)
}

pub(crate) async fn wait_instances(cluster: &Cluster, count: usize) -> Result<Vec<Instance>> {
    cluster
        .wait_for(&format!("{count} MIG instances are there"), WITHIN, || async {
            let found = instances(cluster)?;
            Ok(if found.len() == count { Look::Done(found) } else { Look::NotYet(format!("{found:?}")) })
        })
        .await
}

pub(crate) async fn wait_running(namespace: &Namespace, pod: &str) -> Result<()> {
    let timeout = format!("--timeout={}s", WITHIN.as_secs());
    namespace.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{pod}"), &timeout]).await.map(drop)
}

/// The instance exists as long as the pod, and the container sees that one and no other.
pub(super) async fn claim(cluster: Cluster) -> Result<()> {
    let namespace = Namespace::create(&cluster, "slice-of-a-claim").await?;
    wait_instances(&cluster, 0).await?;
    namespace.apply(&claiming("one", "2g.10gb").to_string()).await?;
    wait_running(&namespace, "one").await?;
    let found = wait_instances(&cluster, 1).await?;
    let instance = &found[0];
    ensure!(instance.profile == "2g.10gb", "the instance is a {}", instance.profile);

    let pod = pods::only(&cluster, namespace.name, "app=one").await?;
    let model = pods::process(&pod, "sluice-loadtest", "model")?;
    let (_, uuid) = instance.compute_instances.first().context("no compute instance")?;
    let device = pods::variable(model, env::DEVICE)?;
    let told = pods::variable(model, &env::uuid(&device))?;
    ensure!(told == *uuid, "the container's variable names {told}, its instance is {uuid}");
    ensure!(pods::variable(model, env::NVIDIA_VISIBLE_DEVICES)? == env::NVIDIA_VISIBLE_DEVICES_VOID);
    ensure!(pods::variable(model, env::PROFILE)? == "2g.10gb");
    device_nodes(&pods::root(model), instance)?;

    namespace.kubectl(&["delete", "pod", "one"]).await?;
    wait_instances(&cluster, 0).await?;
    namespace.remove().await
}

/// Checks that the container has the device nodes of the GPU and of the capabilities of this instance alone.
fn device_nodes(root: &std::path::Path, instance: &Instance) -> Result<()> {
    let gpu = root.join(format!("dev/nvidia{}", instance.gpu));
    let found = fs::metadata(&gpu).with_context(|| format!("no {}", gpu.display()))?;
    ensure!(found.file_type().is_char_device(), "{} is no character device", gpu.display());
    let minor = rustix::fs::minor(found.rdev());
    ensure!(minor as usize == instance.gpu, "{} has minor {minor}", gpu.display());
    let capabilities = fs::read_dir(root.join("dev/nvidia-caps")).context("no /dev/nvidia-caps")?.count();
    ensure!(
        capabilities == 2,
        "the container sees {capabilities} capabilities, not those of one GPU and compute instance"
    );
    Ok(())
}

/// The driver is killed (SIGKILL) when an instance has been created but not yet reported.
pub(super) async fn driver_killed(cluster: Cluster) -> Result<()> {
    let namespace = Namespace::create(&cluster, "driver-killed").await?;
    wait_instances(&cluster, 0).await?;
    let gpus = simulated_gpus::open(cluster.workdir())?;
    gpus.add_fault(GATE, &Fault::block("nvmlDeviceCreateGpuInstanceWithPlacement", When::After))?;
    namespace.apply(&claiming("one", "2g.10gb").to_string()).await?;
    let waiting = gpus.clone();
    let blocked = tokio::task::spawn_blocking(move || waiting.wait_blocked(GATE, WITHIN)).await?;
    let driver = pods::only(&cluster, SYSTEM_NAMESPACE, DRIVER)
        .await
        .and_then(|pod| pods::process(&pod, "sluice-driver", ""));
    let killed = driver.map(|driver| driver.signal(Signal::KILL));
    gpus.remove_fault(GATE)?;
    blocked?;
    ensure!(killed?, "the driver had already ended");

    wait_running(&namespace, "one").await?;
    wait_instances(&cluster, 1).await?;
    namespace.kubectl(&["delete", "pod", "one"]).await?;
    wait_instances(&cluster, 0).await?;
    namespace.remove().await
}

/// A pod with a slice keeps both while the node's programs are restarted, and slices are published again.
pub(super) async fn node_programs_restarted(cluster: Cluster) -> Result<()> {
    let namespace = Namespace::create(&cluster, "restarts-with-slices").await?;
    wait_instances(&cluster, 0).await?;
    namespace.apply(&claiming("one", "3g.20gb").to_string()).await?;
    wait_running(&namespace, "one").await?;
    let before = wait_instances(&cluster, 1).await?;
    let process = model_of(&cluster, &namespace).await?;
    for component in ["kubelet", "containerd"] {
        let control = cluster.control();
        tokio::task::spawn_blocking(move || control.kill(component)).await??;
        cluster
            .wait_node(NODE_NAME, WITHIN)
            .await
            .with_context(|| format!("after {component} was killed"))?;
        wait_published(&cluster).await?;
    }
    // A second pod gets a slice of its own: prepare works again.
    namespace.apply(&claiming("two", "2g.10gb").to_string()).await?;
    wait_running(&namespace, "two").await?;
    let after = wait_instances(&cluster, 2).await?;
    ensure!(
        before.iter().all(|instance| after.contains(instance)),
        "the first instance changed: {before:?}, {after:?}"
    );
    ensure!(model_of(&cluster, &namespace).await? == process, "the first pod's process is another one");
    namespace.kubectl(&["delete", "pod", "one", "two"]).await?;
    wait_instances(&cluster, 0).await?;
    namespace.remove().await
}

async fn model_of(cluster: &Cluster, namespace: &Namespace) -> Result<Identity> {
    let pod: Pod = pods::only(cluster, namespace.name, "app=one").await?;
    pods::process(&pod, "sluice-loadtest", "model")
}

pub(super) async fn wait_published(cluster: &Cluster) -> Result<()> {
    cluster
        .wait_for("the node's slices are published", WITHIN, || async {
            let names = cluster.kubectl(&["get", "resourceslices", "-o", "name"]).await?;
            Ok(if names.trim().is_empty() {
                Look::NotYet("there are none".to_owned())
            } else {
                Look::Done(())
            })
        })
        .await
}

/// ResourceSlices that are deleted, as the kubelet does at every start, are back at once.
pub(super) async fn wiped(cluster: Cluster) -> Result<()> {
    let count = async || {
        let names = cluster.kubectl(&["get", "resourceslices", "-o", "name"]).await?;
        anyhow::Ok(names.lines().count())
    };
    let before = count().await?;
    ensure!(before > 0, "no slices are published");
    let slices = kube::Api::<k8s_openapi::api::resource::v1::ResourceSlice>::all(cluster.client());
    slices.delete_collection(&Default::default(), &Default::default()).await?;
    cluster
        .wait_for("all slices are back", Duration::from_secs(10), || async {
            let now = slices.list(&Default::default()).await?.items.len();
            Ok(if now == before { Look::Done(()) } else { Look::NotYet(format!("{now} of {before}")) })
        })
        .await?;
    Ok(())
}

/// An unknown sharing strategy in a claim: the pod's events name the field.
pub(super) async fn wrong_device_config(cluster: Cluster) -> Result<()> {
    let namespace = Namespace::create(&cluster, "wrong-device-config").await?;
    let mut objects = claiming("one", "2g.10gb");
    objects["items"][0]["spec"]["spec"]["devices"]["config"] = json!([{
        "opaque": { "driver": sluice_config::names::DRIVER, "parameters": {
            "apiVersion": "gpu.sluice.dev/v1alpha1", "kind": "DeviceConfig", "sharing": { "strategy": "Sometimes" },
        }},
    }]);
    namespace.apply(&objects.to_string()).await?;
    let events =
        || namespace.kubectl(&["get", "events", "-o", "jsonpath={range .items[*]}{.message}{\"\\n\"}{end}"]);
    cluster
        .wait_for("an event that names sharing.strategy", WITHIN, || async {
            let events = events().await?;
            Ok(
                match events
                    .lines()
                    .find(|event| event.contains("sharing.strategy") && event.contains("Sometimes"))
                {
                    Some(_) => Look::Done(()),
                    None => Look::NotYet(events),
                },
            )
        })
        .await?;
    ensure!(instances(&cluster)?.is_empty(), "an instance was made for a claim that was refused");
    namespace.remove().await
}
