//! What a pod is to us, and which claims are its own.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::api::resource::v1::ResourceClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use sluice_config::names::pod as names;

use super::bench::is_allocated;
use super::{PodRef, Wants};
use crate::inject::opts_in;

/// Annotation by which the resource claim controller says for which entry of the pod it made a claim.
const CLAIM_OF_POD: &str = "resource.kubernetes.io/pod-claim-name";

/// What a pod is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// A gate of ours holds it.
    Gated,
    /// It has no gate and no node yet: it will take what it claims.
    InFlight,
    /// It has what it claimed, ends, or is held by others.
    NoConcern,
}

/// Judges a pod. `lifted`: its gate is gone, even where this pod still shows it.
pub fn look(pod: &Pod, lifted: bool) -> Look {
    let spec = pod.spec.as_ref();
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    if matches!(phase, "Succeeded" | "Failed") || pod.metadata.deletion_timestamp.is_some() {
        return Look::NoConcern;
    }
    if !lifted && !our_gates(pod).is_empty() {
        return Look::Gated;
    }
    let claims = spec.is_some_and(|spec| spec.resource_claims.as_ref().is_some_and(|all| !all.is_empty()));
    // One with a node and without an allocation is only seen where watches lag behind each other.
    if claims && foreign_gates(pod).is_empty() { Look::InFlight } else { Look::NoConcern }
}

/// Positions and names of our gates. The bare name is nobody's, so it counts on opted-in pods alone.
pub fn our_gates(pod: &Pod) -> Vec<(usize, String)> {
    let opted_in = opts_in(pod);
    gates(pod)
        .enumerate()
        .filter(|(_, name)| is_ours(name, opted_in))
        .map(|(at, name)| (at, name.to_owned()))
        .collect()
}

/// Names of the gates of others.
pub fn foreign_gates(pod: &Pod) -> Vec<String> {
    let opted_in = opts_in(pod);
    gates(pod).filter(|name| !is_ours(name, opted_in)).map(str::to_owned).collect()
}

fn gates(pod: &Pod) -> impl Iterator<Item = &str> {
    let gates = pod.spec.iter().flat_map(|spec| spec.scheduling_gates.iter().flatten());
    gates.map(|gate| gate.name.as_str())
}

fn is_ours(gate: &str, opted_in: bool) -> bool {
    gate == names::GATE || (opted_in && gate == names::GATE_ALIAS)
}

impl PodRef {
    /// Of a pod that the API server has.
    pub fn of(pod: &Pod) -> Self {
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        let metadata = &pod.metadata;
        Self { namespace: part(&metadata.namespace), name: part(&metadata.name), uid: part(&metadata.uid) }
    }
}

/// A pod's own deadline; `default` where it names none that can be read.
pub fn deadline(pod: &Pod, default: Duration) -> Duration {
    let annotations = pod.metadata.annotations.as_ref();
    let seconds = annotations.and_then(|all| all.get(names::GATE_DEADLINE_ANNOTATION));
    seconds.and_then(|seconds| seconds.trim().parse().ok()).map_or(default, Duration::from_secs)
}

/// How long ago the pod was made, by this machine's clock.
pub fn age(pod: &Pod, now: Timestamp) -> Duration {
    let created = pod.metadata.creation_timestamp.as_ref().map(|Time(at)| *at);
    created.map_or(Duration::ZERO, |at| Duration::try_from(now.duration_since(at)).unwrap_or_default())
}

/// Equal for pods whose specifications choose among nodes in the same way.
pub fn placement_key(spec: &PodSpec) -> String {
    let affinity = spec.affinity.as_ref().map(|affinity| &affinity.node_affinity);
    // Cannot fail: these are plain strings and lists.
    serde_json::to_string(&(&spec.node_selector, affinity, &spec.tolerations)).unwrap_or_default()
}

/// Claims by name and by the pod that they were made for.
pub struct ClaimIndex<'a> {
    by_name: BTreeMap<(&'a str, &'a str), &'a ResourceClaim>,
    by_pod: BTreeMap<(&'a str, &'a str), &'a ResourceClaim>,
}

impl<'a> ClaimIndex<'a> {
    /// Of all claims there are.
    pub fn new(claims: &'a [ResourceClaim]) -> Self {
        let mut index = Self { by_name: BTreeMap::new(), by_pod: BTreeMap::new() };
        for claim in claims {
            let metadata = &claim.metadata;
            if metadata.deletion_timestamp.is_some() {
                continue;
            }
            let namespace = metadata.namespace.as_deref().unwrap_or_default();
            index.by_name.insert((namespace, metadata.name.as_deref().unwrap_or_default()), claim);
            let entry = metadata.annotations.as_ref().and_then(|all| all.get(CLAIM_OF_POD));
            for owner in metadata.owner_references.iter().flatten().filter(|owner| owner.kind == "Pod") {
                if let Some(entry) = entry {
                    index.by_pod.insert((&owner.uid, entry), claim);
                }
            }
        }
        index
    }

    /// What the pod claims and does not have yet.
    pub fn wants(&self, pod: &Pod) -> Wants {
        let mut wants = Wants { claims: Vec::new(), missing: None, closed_nodes: Default::default() };
        let this = PodRef::of(pod);
        let made = pod.status.iter().flat_map(|status| status.resource_claim_statuses.iter().flatten());
        // A name that is told empty: no claim is needed.
        let made: BTreeMap<&str, Option<&str>> =
            made.map(|one| (one.name.as_str(), one.resource_claim_name.as_deref())).collect();
        for entry in pod.spec.iter().flat_map(|spec| spec.resource_claims.iter().flatten()) {
            let named = entry.resource_claim_name.as_deref();
            let claim = match named.or_else(|| made.get(entry.name.as_str()).copied().flatten()) {
                Some(name) => self.by_name.get(&(this.namespace.as_str(), name)),
                None if made.contains_key(entry.name.as_str()) => continue,
                None => self.by_pod.get(&(this.uid.as_str(), entry.name.as_str())),
            };
            match claim {
                Some(claim) if is_allocated(claim) => {}
                Some(claim) => wants.claims.push(ResourceClaim::clone(claim)),
                None => {
                    wants.missing.get_or_insert_with(|| missing(&entry.name, named));
                }
            }
        }
        wants
    }
}

fn missing(entry: &str, named: Option<&str>) -> String {
    match named {
        Some(name) => format!("the ResourceClaim {name} of spec.resourceClaims[{entry}] does not exist"),
        None => format!("the ResourceClaim of spec.resourceClaims[{entry}] is not made yet"),
    }
}
