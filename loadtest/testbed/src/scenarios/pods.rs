//! Pods as scenarios observe them: their state over time, their processes, the network that they see.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Namespace;
use crate::cluster::{Cluster, Look};
use crate::processes::{self, Identity};

/// Pause between two observations of the pods.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Returns the namespace's pods with a label, without those that are being deleted.
pub(crate) async fn list(cluster: &Cluster, namespace: &str, labels: &str) -> Result<Vec<Pod>> {
    let pods = Api::<Pod>::namespaced(cluster.client(), namespace);
    let pods = pods.list(&ListParams::default().labels(labels)).await?;
    Ok(pods.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect())
}

/// Returns the only pod with a label.
pub(crate) async fn only(cluster: &Cluster, namespace: &str, labels: &str) -> Result<Pod> {
    let mut pods = list(cluster, namespace, labels).await?;
    ensure!(pods.len() == 1, "{} pods have {labels}, not one", pods.len());
    pods.pop().context("one pod")
}

pub(crate) fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// Returns the IP address of a pod.
pub(crate) fn address(pod: &Pod) -> Result<String> {
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    address.with_context(|| format!("pod {} has no address", name(pod)))
}

/// Returns whether a condition of the pod is `True`.
pub(crate) fn is(pod: &Pod, condition: &str) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|found| found.type_ == condition && found.status == "True"))
}

/// Returns whether a scheduling gate holds the pod.
pub(crate) fn is_gated(pod: &Pod) -> bool {
    let gates = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref());
    gates.is_some_and(|gates| !gates.is_empty())
}

/// Returns whether the scheduler reports that the pod fits on no node.
fn is_unschedulable(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| {
        all.iter().any(|found| {
            found.type_ == "PodScheduled"
                && found.status == "False"
                && found.reason.as_deref() == Some("Unschedulable")
        })
    })
}

/// Waits until exactly `count` pods with a label exist and all of them are ready.
pub(crate) async fn wait_ready(
    cluster: &Cluster,
    namespace: &Namespace,
    labels: &str,
    count: usize,
    within: Duration,
) -> Result<Vec<Pod>> {
    cluster
        .wait_for(&format!("{count} ready pods with {labels}"), within, || async {
            let pods = list(cluster, namespace.name, labels).await?;
            let ready = pods.iter().filter(|pod| is(pod, "Ready")).count();
            Ok(if ready == count && pods.len() == count {
                Look::Done(pods)
            } else {
                Look::NotYet(format!("{} pods, {ready} ready", pods.len()))
            })
        })
        .await
}

/// Returns the process of a program in a pod, with its id in the PID namespace of this process.
pub(crate) fn process(pod: &Pod, program: &str, argument: &str) -> Result<Identity> {
    let uid = pod.metadata.uid.as_deref().context("a pod without a uid")?;
    let in_pod = |pid: &u32| {
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        cgroup.contains(uid)
            && processes::program(*pid).as_deref() == Some(program)
            && processes::command_line(*pid).contains(argument)
    };
    let found = processes::all().into_iter().find(in_pod).and_then(Identity::of);
    found.with_context(|| format!("no process {program} {argument} in pod {}", name(pod)))
}

/// Returns the path of the root of a process's file system.
pub(crate) fn root(process: Identity) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root", process.pid))
}

/// Returns a variable of a process's environment.
pub(crate) fn variable(process: Identity, name: &str) -> Result<String> {
    let environment = fs::read(format!("/proc/{}/environ", process.pid))?;
    let prefix = format!("{name}=");
    let found = environment
        .split(|byte| *byte == 0)
        .find_map(|entry| std::str::from_utf8(entry).ok()?.strip_prefix(&prefix).map(ToOwned::to_owned));
    found.with_context(|| format!("the process has no variable {name}"))
}

/// Returns whether a TCP connection can be made from inside the pod of `from`.
pub(crate) async fn can_connect(from: Identity, address: &str, port: u16) -> Result<bool> {
    // bash's own sockets: no program of the pod's image is needed, only its network.
    let status = tokio::process::Command::new("nsenter")
        .args(["--target", &from.pid.to_string(), "--net", "timeout", "3", "bash", "-c"])
        .arg(format!("exec 3<>/dev/tcp/{address}/{port}"))
        .stderr(std::process::Stdio::null())
        .status()
        .await
        .context("cannot start nsenter")?;
    match status.code() {
        Some(0) => Ok(true),
        Some(_) => Ok(false),
        None => bail!("nsenter was ended by a signal"),
    }
}

/// Background task that observes pods until it is dropped.
#[derive(Debug)]
pub(crate) struct Observer {
    task: JoinHandle<()>,
    seen: std::sync::Arc<std::sync::Mutex<Seen>>,
}

/// Extremes that an [`Observer`] saw.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Longest time that one pod was `Unschedulable`, and the pod's name.
    pub(crate) unschedulable: (Duration, String),
    /// Largest number of pods at one time, those that were being deleted included.
    pub(crate) most: usize,
    /// Smallest number of ready pods at one time; `None` before the first observation.
    pub(crate) fewest_ready: Option<usize>,
}

impl Observer {
    /// Starts to observe the pods with a label.
    pub(crate) fn start(cluster: &Cluster, namespace: &'static str, labels: &'static str) -> Self {
        let seen = std::sync::Arc::new(std::sync::Mutex::new(Seen::default()));
        let pods = Api::<Pod>::namespaced(cluster.client(), namespace);
        let writes = std::sync::Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut since: HashMap<String, Instant> = HashMap::new();
            loop {
                if let Ok(found) = pods.list(&ListParams::default().labels(labels)).await {
                    note(&mut since, &found.items, &writes);
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        Self { task, seen }
    }

    /// Returns the extremes so far.
    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().map(|seen| seen.clone()).unwrap_or_default()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn note(since: &mut HashMap<String, Instant>, pods: &[Pod], seen: &std::sync::Mutex<Seen>) {
    let Ok(mut seen) = seen.lock() else { return };
    let now = Instant::now();
    since.retain(|known, _| pods.iter().any(|pod| name(pod) == known && is_unschedulable(pod)));
    for pod in pods.iter().filter(|pod| is_unschedulable(pod)) {
        let began = *since.entry(name(pod).to_owned()).or_insert(now);
        if now - began > seen.unschedulable.0 {
            seen.unschedulable = (now - began, name(pod).to_owned());
        }
    }
    seen.most = seen.most.max(pods.len());
    let ready = pods.iter().filter(|pod| is(pod, "Ready")).count();
    seen.fewest_ready = Some(seen.fewest_ready.map_or(ready, |fewest| fewest.min(ready)));
}
