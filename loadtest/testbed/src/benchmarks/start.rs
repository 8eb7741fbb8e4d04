//! Time from zero replicas to the first answer, by phase.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};

use super::Spread;
use crate::cluster::{Cluster, Look};
use crate::node::simulated_gpus;
use crate::scenarios::{Namespace, pods, request, sample};

/// Time limit of one start.
const WITHIN: Duration = Duration::from_secs(120);
/// How often what cannot be watched is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The phases, in order; each ends where the next one begins.
const PHASES: [&str; 8] = [
    "queue: asked for, until the pod exists",
    "lift: until its gate is gone",
    "schedule: until it has a node",
    "prepare: until its MIG instance is there",
    "start: until the model's process runs",
    "load: until the model takes calls (simulated: 1 s)",
    "warm: until the pod is Ready",
    "publish: until the Service answers a request",
];

/// Ends of the phases of one start.
#[derive(Debug, Default, Clone, Copy)]
struct Ends {
    created: Option<SystemTime>,
    lifted: Option<SystemTime>,
    placed: Option<SystemTime>,
    prepared: Option<SystemTime>,
    started: Option<SystemTime>,
    loaded: Option<SystemTime>,
    ready: Option<SystemTime>,
    answered: Option<SystemTime>,
}

impl Ends {
    fn all(self) -> [Option<SystemTime>; 8] {
        let Self { created, lifted, placed, prepared, started, loaded, ready, answered } = self;
        [created, lifted, placed, prepared, started, loaded, ready, answered]
    }
}

/// Scales the sample from none to one, again and again; the last row is the sum.
pub(super) async fn measure(cluster: &Cluster, rounds: usize) -> Result<Vec<(&'static str, Spread)>> {
    let namespace = Namespace::create(cluster, "figures-start").await?;
    let (sample, journal) = sample::Sample::read(cluster)?.journal(cluster, namespace.name)?;
    let sample = sample.without("InferenceAutoscaler").replicas(0)?;
    namespace.apply(&sample.list()).await?;
    let target = sample::address(&namespace).await?;
    let mut measured: Vec<Vec<Duration>> = vec![Vec::new(); PHASES.len() + 1];
    for _ in 0..rounds {
        scale(&namespace, 0).await?;
        pods::wait_ready(cluster, &namespace, sample::PODS, 0, WITHIN).await?;
        wait_no_instance(cluster).await?;
        let asked = SystemTime::now();
        let watching = tokio::spawn(follow(cluster.clone(), namespace.name, target.clone()));
        scale(&namespace, 1).await?;
        let (mut ends, pod) =
            tokio::time::timeout(WITHIN, watching).await.context("no answer in time")???;
        let calls = journal.pods()?;
        let (_, calls) = calls.iter().find(|(name, _)| *name == pod).context("the model has no journal")?;
        let first = calls.first().context("nothing reached the model")?;
        ends.loaded = Some(SystemTime::UNIX_EPOCH + Duration::from_micros(first.t_us));
        let mut before = asked;
        for (phase, end) in ends.all().into_iter().enumerate() {
            let end = end.with_context(|| format!("no end of {}", PHASES[phase]))?;
            measured[phase].push(end.duration_since(before).unwrap_or_default());
            before = before.max(end);
        }
        measured[PHASES.len()].push(before.duration_since(asked)?);
    }
    namespace.remove().await?;
    let names = PHASES.into_iter().chain(["all"]);
    let rows = names.zip(&measured).map(|(phase, times)| Some((phase, Spread::of(times)?)));
    rows.collect::<Option<Vec<_>>>().context("no round was measured")
}

/// The slice of the last round must be gone: its time is not this round's.
async fn wait_no_instance(cluster: &Cluster) -> Result<()> {
    let gpus = simulated_gpus::open(cluster.workdir())?;
    cluster
        .wait_for("no MIG instance is there", WITHIN, || async {
            let left = gpus.instances()?.len();
            Ok(if left == 0 { Look::Done(()) } else { Look::NotYet(format!("{left} are")) })
        })
        .await
}

async fn scale(namespace: &Namespace, replicas: u32) -> Result<()> {
    let deployment = format!("deployment/{}", sample::NAME);
    namespace.kubectl(&["scale", &deployment, &format!("--replicas={replicas}")]).await.map(drop)
}

/// Follows the pod that comes, until the Service answers.
async fn follow(cluster: Cluster, namespace: &'static str, target: String) -> Result<(Ends, String)> {
    let mut ends = Ends::default();
    let api = Api::<Pod>::namespaced(cluster.client(), namespace);
    let config = watcher::Config::default().labels(sample::PODS);
    let mut events = Box::pin(watcher(api, config).default_backoff());
    let mut look = tokio::time::interval(LOOK_EVERY);
    let mut pod: Option<Pod> = None;
    let gpus = simulated_gpus::open(cluster.workdir())?;
    loop {
        tokio::select! {
            event = events.try_next() => match event?.context("the watch of pods ended")? {
                watcher::Event::Apply(seen) | watcher::Event::InitApply(seen) => {
                    note(&mut ends, &seen);
                    pod = Some(seen);
                }
                _ => {}
            },
            _ = look.tick() => {
                let Some(pod) = &pod else { continue };
                let now = Some(SystemTime::now());
                if ends.prepared.is_none() && !gpus.instances()?.is_empty() {
                    ends.prepared = now;
                }
                if ends.prepared.is_some() && ends.started.is_none() && pods::process(pod, "sluice-loadtest", "model").is_ok() {
                    ends.started = now;
                }
                if ends.ready.is_some() && request::infer(&target).await.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                    ends.answered = Some(SystemTime::now());
                    return Ok((ends, pods::name(pod).to_owned()));
                }
            }
        }
    }
}

fn note(ends: &mut Ends, pod: &Pod) {
    let now = Some(SystemTime::now());
    let placed = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    for (end, is) in [
        (&mut ends.created, true),
        (&mut ends.lifted, !pods::is_gated(pod)),
        (&mut ends.placed, placed),
        (&mut ends.ready, pods::is(pod, "Ready")),
    ] {
        if end.is_none() && is {
            *end = now;
        }
    }
}
