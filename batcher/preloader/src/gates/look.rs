//! All facts about a pod in one look, and which claims are its own.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::api::resource::v1::ResourceClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use sluice_config::names::pod as names;

use super::trial::is_allocated;
use super::{PodRef, Wants};
use crate::inject::opts_in;

/// Annotation of a claim with the name of the pod's entry that the resource claim controller made it for.
const CLAIM_OF_POD: &str = "resource.kubernetes.io/pod-claim-name";

/// What lifting has to do with a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// A gate of ours holds it.
    Gated,
    /// It has no gate and no node yet: it will take the devices that it claims.
    InFlight,
    /// Nothing: it has the devices that it claimed, has ended or is being deleted, or only foreign gates hold it.
    NoConcern,
}

/// All facts about one pod on which decisions depend, but for its claims.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Look {
    /// Identity of the pod.
    pub pod: PodRef,
    /// What lifting has to do with the pod.
    pub stage: Stage,
    /// Priority of the pod; 0 where it has none.
    pub priority: i32,
    /// Creation time of the pod.
    pub created: Option<Timestamp>,
    /// Positions and names of our gates. The bare name counts on opted-in pods alone.
    pub our_gates: Vec<(usize, String)>,
    /// Names of all other gates.
    pub foreign_gates: Vec<String>,
    /// Deadline of the gate by the pod's annotation; `None` where the pod has none that can be read.
    pub deadline: Option<Duration>,
}

impl Look {
    /// Reads the facts off `pod`. `is_lifted`: its gate was removed, though `pod` may still show it.
    pub(crate) fn of(pod: &Pod, is_lifted: bool) -> Self {
        let opted_in = opts_in(pod);
        let is_ours = |gate: &str| gate == names::GATE || (opted_in && gate == names::GATE_ALIAS);
        let spec = pod.spec.as_ref();
        let gates = spec.iter().flat_map(|spec| spec.scheduling_gates.iter().flatten());
        let gates = gates.enumerate().map(|(at, gate)| (at, gate.name.clone()));
        let (our_gates, foreign): (Vec<_>, Vec<_>) = gates.partition(|(_, name)| is_ours(name));
        let foreign_gates: Vec<String> = foreign.into_iter().map(|(_, name)| name).collect();
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
        let has_ended = matches!(phase, "Succeeded" | "Failed") || pod.metadata.deletion_timestamp.is_some();
        let claims =
            spec.is_some_and(|spec| spec.resource_claims.as_ref().is_some_and(|all| !all.is_empty()));
        let stage = if has_ended {
            Stage::NoConcern
        } else if !is_lifted && !our_gates.is_empty() {
            Stage::Gated
        } else if claims && foreign_gates.is_empty() {
            // A pod with a node and without an allocation is only seen where watches lag behind each other.
            Stage::InFlight
        } else {
            Stage::NoConcern
        };
        Self {
            pod: PodRef::of(pod),
            stage,
            priority: spec.and_then(|spec| spec.priority).unwrap_or(0),
            created: pod.metadata.creation_timestamp.as_ref().map(|Time(at)| *at),
            our_gates,
            foreign_gates,
            deadline: deadline(pod),
        }
    }

    /// Returns how long ago the pod was created, by this machine's clock; zero where that is in the future.
    pub(crate) fn age(&self, now: Timestamp) -> Duration {
        let age = self.created.map(|at| Duration::try_from(now.duration_since(at)).unwrap_or_default());
        age.unwrap_or_default()
    }
}

fn deadline(pod: &Pod) -> Option<Duration> {
    let seconds = pod.metadata.annotations.as_ref()?.get(names::GATE_DEADLINE_ANNOTATION)?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}

impl PodRef {
    /// Returns the identity of a pod that the API server has.
    pub(crate) fn of(pod: &Pod) -> Self {
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        let metadata = &pod.metadata;
        Self { namespace: part(&metadata.namespace), name: part(&metadata.name), uid: part(&metadata.uid) }
    }
}

/// Returns a key that is equal for pods whose specifications choose among nodes in the same way.
pub(crate) fn placement_key(spec: &PodSpec) -> String {
    let affinity = spec.affinity.as_ref().map(|affinity| &affinity.node_affinity);
    // Cannot fail: these are plain strings and lists.
    serde_json::to_string(&(&spec.node_selector, affinity, &spec.tolerations)).unwrap_or_default()
}

/// Claims by name and by the pod that they were made for.
pub(crate) struct ClaimIndex<'a> {
    by_name: BTreeMap<(&'a str, &'a str), &'a ResourceClaim>,
    by_pod: BTreeMap<(&'a str, &'a str), &'a ResourceClaim>,
}

impl<'a> ClaimIndex<'a> {
    /// Indexes all claims but those that are being deleted.
    pub(crate) fn new(claims: &'a [ResourceClaim]) -> Self {
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

    /// Returns the pod's claims without an allocation, and the first that does not exist.
    pub(crate) fn wants(&self, pod: &Pod) -> Wants {
        let mut wants = Wants { claims: Vec::new(), missing: None, closed_nodes: Default::default() };
        let this = PodRef::of(pod);
        let made = pod.status.iter().flat_map(|status| status.resource_claim_statuses.iter().flatten());
        // An entry without a name: no claim is needed.
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
