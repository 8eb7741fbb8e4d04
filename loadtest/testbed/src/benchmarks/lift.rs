//! Time from a slice becoming free to the removal of the next pod's gate, with many pods waiting.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::resource::v1::ResourceClaim;
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};
use tokio::time::Instant;

use super::Spread;
use crate::cluster::{Cluster, Look};
use crate::scenarios::{Namespace, pods, sample};

/// Pods at their gates.
pub(super) const GATED: usize = 50;
/// Slices of the sample's profile that the node's two GPUs have.
const SLICES: usize = 6;
/// Time limit of each wait.
const WITHIN: Duration = Duration::from_secs(120);

/// Deletes a pod that has a slice, again and again. Each time is from the moment in which the API server shows its
/// claim without an allocation to the moment in which it shows one gate less.
pub(super) async fn measure(cluster: &Cluster, rounds: usize) -> Result<Spread> {
    let namespace = Namespace::create(cluster, "figures-lift").await?;
    let replicas = u32::try_from(GATED + SLICES)?;
    let sample = sample::Sample::read(cluster)?.without("InferenceAutoscaler").replicas(replicas)?;
    namespace.apply(&sample.list()).await?;
    let mut measured = Vec::new();
    for _ in 0..rounds {
        let victim = settled(cluster, &namespace).await?;
        let freed = first_without_allocation(cluster, namespace.name, &victim);
        let lifted = first_lift(cluster, namespace.name);
        let delete = async {
            // Both watches must have begun.
            tokio::time::sleep(Duration::from_millis(500)).await;
            namespace.kubectl(&["delete", "pod", &victim, "--wait=false"]).await
        };
        let (freed, lifted, deleted) = tokio::join!(freed, lifted, delete);
        deleted?;
        measured.push(lifted?.saturating_duration_since(freed?));
    }
    namespace.remove().await?;
    Spread::of(&measured).context("no round was measured")
}

/// Waits until every slice serves and all others are gated; the result is a pod with a slice.
async fn settled(cluster: &Cluster, namespace: &Namespace) -> Result<String> {
    cluster
        .wait_for("every slice serves and the others wait", WITHIN, || async {
            let pods = pods::list(cluster, namespace.name, sample::PODS).await?;
            let ready = pods.iter().filter(|pod| pods::is(pod, "Ready")).count();
            let gated = pods.iter().filter(|pod| pods::is_gated(pod)).count();
            let victim = pods.iter().find(|pod| pods::is(pod, "Ready"));
            Ok(match victim {
                Some(victim) if ready == SLICES && gated == GATED => {
                    Look::Done(pods::name(victim).to_owned())
                }
                _ => Look::NotYet(format!("{ready} ready, {gated} gated of {}", pods.len())),
            })
        })
        .await
}

async fn first_without_allocation(cluster: &Cluster, namespace: &str, pod: &str) -> Result<Instant> {
    let claims = Api::<ResourceClaim>::namespaced(cluster.client(), namespace);
    let is_of_pod = |claim: &ResourceClaim| {
        claim.metadata.owner_references.iter().flatten().any(|owner| owner.name == pod)
    };
    let mut events = Box::pin(watcher(claims, watcher::Config::default()).default_backoff());
    let watched = async {
        while let Some(event) = events.try_next().await? {
            let free = match &event {
                watcher::Event::Apply(claim) => {
                    is_of_pod(claim) && claim.status.as_ref().is_none_or(|status| status.allocation.is_none())
                }
                watcher::Event::Delete(claim) => is_of_pod(claim),
                _ => false,
            };
            if free {
                return Ok(Instant::now());
            }
        }
        anyhow::bail!("the watch of claims ended")
    };
    tokio::time::timeout(WITHIN, watched).await.context("no claim was given back in time")?
}

async fn first_lift(cluster: &Cluster, namespace: &str) -> Result<Instant> {
    let pods = Api::<Pod>::namespaced(cluster.client(), namespace);
    let config = watcher::Config::default().labels(sample::PODS);
    let mut events = Box::pin(watcher(pods, config).default_backoff());
    let watched = async {
        let mut gated = std::collections::BTreeSet::new();
        while let Some(event) = events.try_next().await? {
            let (watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) = event else { continue };
            let name = pods::name(&pod).to_owned();
            if pods::is_gated(&pod) {
                gated.insert(name);
            } else if gated.remove(&name) {
                return Ok(Instant::now());
            }
        }
        anyhow::bail!("the watch of pods ended")
    };
    tokio::time::timeout(WITHIN, watched).await.context("no gate was lifted in time")?
}
