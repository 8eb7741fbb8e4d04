//! Platform `kubernetes`: replicas are pods of any object that has a scale subresource, on slices where the scheduler would
//! place them.
//!
//! ```text
//!  scale ──GET, PATCH──▶ asked, selector ─────────┐
//!  owners ──GET────▶ whose pods the selector matches ┤
//!  HPAs ──watch────▶ other autoscalers ─────────────────┤
//!  pods ──watch─┬▶ ready, starting, start-up time ┼▶ Replicas
//!               └▶ sidecars, or the gateway's pods ┘
//!  inventory ──watch──▶ slices, claims, classes, nodes ┐
//!  templates ──watch──▶ class of each pod's claim ─────┴─▶ CapacityView
//! ```
//!
//! Only `*/scale` is ever written here, and only while this process is the leader.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::resource::v1::ResourceClaimTemplate;
use kube::core::Expression;
use kube::{Api, Client};
use sluice_config::api::inference_autoscaler::Gateway;
use sluice_config::names::pod as names;
use sluice_inventory_watch::InventoryWatch;
use sluice_inventory_watch::reflect::Reflected;
use sluice_scaling_policy::{Findings, Hold, HoldReason};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Batcher, Platform, PlatformError, Replicas, ScaleTarget};
use crate::capacity::{Capacity, CapacityView};

mod attribution;
mod batchers;
mod claims;
mod groups;
pub(crate) mod kinds;
mod owners;
mod pods;
mod revisions;
mod rollout;
mod scale;
mod scalers;
mod selector;
mod standing;
mod startup;
mod target;
mod template;
mod workload;

use claims::{Missing, Templates};
use owners::{Owners, Sorted};
use scale::{Scale, Scales, Set};
use scalers::Scalers;
use startup::Startup;
use target::{TargetState, members, of_target, selecting};
use template::{ReplicaPods, Template};
use workload::Workload;

/// Time without a question after which a target is forgotten: many ticks, so it is not scaled any more.
const FORGET_AFTER: Duration = Duration::from_secs(10);
/// Attempts of one change when others change the target too.
const TRIES: u32 = 3;

/// Platform of a cluster.
pub struct KubernetesPlatform {
    scales: Scales,
    owners: Owners,
    scalers: Scalers,
    pods: Reflected<Pod>,
    templates: Reflected<ResourceClaimTemplate>,
    inventory: InventoryWatch,
    /// Whether this process may write.
    leads: watch::Receiver<bool>,
    known: Mutex<BTreeMap<ScaleTarget, TargetState>>,
    /// Held from counting free slices until they are asked for, so that two targets do not count on the same slice.
    growing: tokio::sync::Mutex<()>,
}

impl KubernetesPlatform {
    /// Starts the watches, which end with `stop`. Pods are watched in `namespace`, or in all namespaces where it is `None`.
    pub fn start(
        client: Client,
        namespace: Option<&str>,
        inventory: InventoryWatch,
        leads: watch::Receiver<bool>,
        stop: &CancellationToken,
    ) -> Self {
        let changed = Arc::new(watch::Sender::new(0));
        let pods = scoped(&client, namespace);
        let templates = scoped(&client, namespace);
        let scalers = Scalers::start(scoped(&client, namespace), &changed, stop);
        Self {
            owners: Owners::new(client.clone()),
            scalers,
            scales: Scales::new(client),
            pods: Reflected::start(pods, pods::trim, &changed, stop),
            templates: Reflected::start(templates, |_| (), &changed, stop),
            inventory,
            leads,
            known: Mutex::default(),
            growing: tokio::sync::Mutex::default(),
        }
    }

    /// Waits until everything that is watched was listed once.
    pub async fn ready(&self) {
        tokio::join!(
            self.pods.listed(),
            self.templates.listed(),
            self.inventory.ready(),
            self.scalers.ready()
        );
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<ScaleTarget, TargetState>> {
        // A thread that panicked left complete entries behind.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all_pods(&self) -> Result<Vec<Arc<Pod>>, PlatformError> {
        self.pods.all().ok_or_else(|| not_listed("pods"))
    }

    /// Reads the scale and the pods of the target, and remembers them.
    async fn look(&self, target: &ScaleTarget) -> Result<(Scale, Replicas), PlatformError> {
        let scale = self.scales.get(target).await?;
        let pods = self.all_pods()?;
        let matched = of_target(target, &scale.selector, &pods);
        let sorted = self.owners.sort(target, &scale, matched, &pods).await?;
        let mut all = self.known();
        all.retain(|_, known| known.at.elapsed() < FORGET_AFTER);
        let known = all.entry(target.clone()).or_insert_with(|| TargetState {
            asked: scale.replicas,
            selector: scale.selector.clone(),
            device_class: None,
            foreign: Vec::new(),
            startup: Startup::default(),
            template: None,
            workload: Workload::default(),
            revisions: BTreeMap::new(),
            at: Instant::now(),
        });
        known.asked = scale.replicas;
        known.selector = scale.selector.clone();
        known.at = Instant::now();
        known.foreign.clone_from(&sorted.foreign);
        known.startup.observe(&sorted.own);
        let sidecars = batchers::sidecars(&sorted.own);
        let mut replicas = pods::replicas(scale.replicas, &sorted.own, known.startup.smoothed_ms(), sidecars);
        if template::has_groups(&target.api_version, &target.kind) {
            let size = known.template.as_ref().map_or(1, |(_, pods)| pods.size);
            let groups = groups::count(&of_target(target, &members(target), &pods), size);
            replicas.ready = groups.ready.min(replicas.asked);
            replicas.starting = replicas.asked - replicas.ready;
            replicas.terminating = groups.terminating;
        }
        let selected_by = selecting(&all, target, &sorted.own);
        drop(all);
        replicas.findings = Findings {
            hold: self.conflict(target, sorted, selected_by),
            others_scale: true,
            ..Findings::default()
        };
        Ok((scale, replicas))
    }

    /// Returns a hold where another autoscaler scales the target, or its selector matches pods of others.
    fn conflict(&self, target: &ScaleTarget, sorted: Sorted<'_>, selected_by: Vec<String>) -> Option<Hold> {
        if let Some(message) = self.scalers.rival(target, &sorted.controllers) {
            return Some(Hold { reason: HoldReason::AmbiguousTarget, message });
        }
        let message = attribution::ambiguity(target, sorted.others, selected_by)?;
        Some(Hold { reason: HoldReason::AmbiguousSelector, message })
    }

    /// Returns the processes of the gateway in front of the target.
    fn gateways(&self, target: &ScaleTarget, gateway: &Gateway) -> Result<Vec<Batcher>, PlatformError> {
        let labels = &gateway.match_labels;
        let selector = labels.iter().map(|(key, value)| Expression::Equal(key.clone(), value.clone()));
        let pods = self.all_pods()?;
        let found = batchers::gateways(&of_target(target, &selector.collect(), &pods));
        if found.is_empty() {
            // The replicas are held either way; the error also says what to do.
            let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            return Err(PlatformError::Unscalable(format!(
                "{target}: no pod of namespace {} has the labels {} of spec.gateway and a container with a port \
                 named {}, so demand cannot be seen; install the gateway (config/batcher/gateway), or correct the \
                 labels",
                target.at.namespace,
                labels.join(","),
                names::ADMIN_PORT_NAME
            )));
        }
        Ok(found)
    }

    /// Returns what placement of a replica depends on, counting every target's replicas that have no pod yet.
    fn view(&self, target: &ScaleTarget, replica: &ReplicaPods) -> Result<CapacityView, PlatformError> {
        let mut all = self.known();
        let pods = self.all_pods()?;
        let templates = self.templates.all().ok_or_else(|| not_listed("ResourceClaimTemplates"))?;
        let templates: Templates<'_> = templates
            .iter()
            .filter_map(|one| {
                let metadata = &one.metadata;
                Some(((metadata.namespace.as_deref()?, metadata.name.as_deref()?), one.as_ref()))
            })
            .collect();
        let class = claims::device_class(&target.at.namespace, &replica.spec, &templates)
            .map_err(|problem| PlatformError::Unscalable(format!("{target}: {problem}")))?;
        if let Some(known) = all.get_mut(target) {
            known.device_class.clone_from(&class);
        }
        let missing: Vec<Missing> = all
            .iter()
            .filter_map(|(target, known)| {
                let device_class = known.device_class.clone()?;
                let claiming = known.template.as_ref().map_or(1, |(_, pods)| pods.claiming);
                Some(Missing {
                    device_class,
                    replicas: known
                        .asked
                        .saturating_mul(claiming)
                        .saturating_sub(known.pods_with_device(target, &pods)),
                    holder: target.at.to_string(),
                })
            })
            .collect();
        let without_node =
            all.get(target).map(|known| rollout::without_node(&known.own(target, &pods))).unwrap_or_default();
        drop(all);
        let cluster =
            self.inventory.cluster_for(&replica.spec).ok_or_else(|| not_listed("ResourceSlices"))?;
        let pods: Vec<&Pod> = pods.iter().map(AsRef::as_ref).collect();
        let promised = claims::promised(&pods, &cluster.claims, &templates, &missing);
        // The count without the target's own waiting pods shows how many of them find no slice.
        let own: BTreeSet<&str> = without_node.iter().filter_map(|pod| pod.metadata.uid.as_deref()).collect();
        let promised_to_others = if own.is_empty() {
            Vec::new()
        } else {
            let is_others = |uid: Option<&str>| uid.is_none_or(|uid| !own.contains(uid));
            let others: Vec<&Pod> =
                pods.iter().filter(|pod| is_others(pod.metadata.uid.as_deref())).copied().collect();
            let claims: Vec<_> =
                cluster.claims.iter().filter(|claim| is_others(claims::owner(claim))).cloned().collect();
            claims::promised(&others, &claims, &templates, &missing)
        };
        let waiting = u32::try_from(own.len()).unwrap_or(u32::MAX);
        Ok(CapacityView {
            namespace: target.at.namespace.clone(),
            cluster,
            device_class: class,
            promised,
            waiting,
            promised_to_others,
            devices_per_replica: replica.claiming,
        })
    }

    /// Returns the pods of one replica; reads them again when the target has changed.
    async fn replica_pods(&self, target: &ScaleTarget, version: &str) -> Result<ReplicaPods, PlatformError> {
        {
            let all = self.known();
            let template = all.get(target).and_then(|known| known.template.as_ref());
            if let Some((_, pods)) = template.filter(|(known, _)| known == version) {
                return Ok(pods.clone());
            }
        }
        let (found, workload) = self.scales.template(target).await?;
        if let Some(known) = self.known().get_mut(target) {
            known.workload = workload;
            known.revisions.clear();
        }
        let pods = match found {
            Template::Pods(pods) => *pods,
            found => self.replica_as_it_is(target, &found)?,
        };
        if let Some(known) = self.known().get_mut(target) {
            known.template = Some((version.to_owned(), pods.clone()));
        }
        Ok(pods)
    }

    /// Returns the pods of one replica as an existing one shows them, for objects without a readable template.
    fn replica_as_it_is(&self, target: &ScaleTarget, found: &Template) -> Result<ReplicaPods, PlatformError> {
        let why = match found {
            Template::Forbidden => format!(
                "the autoscaler may not read {} {} (403 Forbidden); to allow it, give a ClusterRole with the verb \
                 get for this kind the label {}: \"true\"",
                target.kind,
                target.at.name,
                template::READABLE_LABEL
            ),
            _ => format!("{} {} has no {} that could be read", target.kind, target.at.name, template::USUAL),
        };
        if template::has_groups(&target.api_version, &target.kind) {
            return Err(PlatformError::ClaimUnknown(format!(
                "how many pods a replica is, is not known: {why}"
            )));
        }
        let pods = self.all_pods()?;
        let all = self.known();
        let mut own = all.get(target).map(|known| known.own(target, &pods)).unwrap_or_default();
        // A terminating pod was made from a template too, perhaps from an older one.
        own.sort_by_key(|pod| !pods::is_live(pod));
        own.first().and_then(|pod| pod.spec.clone()).map(ReplicaPods::one).ok_or_else(|| {
            PlatformError::ClaimUnknown(format!(
                "what a replica claims is not known before the first one has a pod: {why}"
            ))
        })
    }
}

#[async_trait]
impl Platform for KubernetesPlatform {
    async fn replicas(
        &self,
        target: &ScaleTarget,
        gateway: Option<&Gateway>,
    ) -> Result<Replicas, PlatformError> {
        let (scale, mut replicas) = self.look(target).await?;
        // A hold is reported before anything else that may be missing.
        let is_held = replicas.findings.hold.is_some();
        if let Some(gateway) = gateway {
            // Every row passes the gateway; counting it at the sidecars too would count it twice.
            replicas.batchers = match self.gateways(target, gateway) {
                Err(_) if is_held => Vec::new(),
                found => found?,
            };
        } else if replicas.ready > 0 && replicas.batchers.is_empty() && !is_held {
            // The replicas are held either way; the error also says what to do.
            return Err(PlatformError::Unscalable(format!(
                "{target}: none of its {} ready pods has a sidecar {} with a port named {}, so demand cannot be \
                 seen; label its pod template {}: {}",
                replicas.ready,
                names::SIDECAR,
                names::ADMIN_PORT_NAME,
                names::INJECT_LABEL,
                names::INJECT_ENABLED
            )));
        }
        // Read here, so that the capacity that is asked for next is of the same moment.
        self.replica_pods(target, &scale.version).await.map(drop).or_else(|error| match error {
            // What it claims is the capacity's question.
            PlatformError::Unscalable(_) | PlatformError::ClaimUnknown(_) => Ok(()),
            error => Err(error),
        })?;
        replicas.standing = self.standing(target, replicas.asked).await?;
        Ok(replicas)
    }

    async fn set_replicas(&self, target: &ScaleTarget, replicas: u32) -> Result<u32, PlatformError> {
        let from = self.known().get(target).map(|known| known.asked);
        let _one_at_a_time = self.growing.lock().await;
        for _ in 0..TRIES {
            let (scale, _) = self.look(target).await?;
            if from.is_some_and(|from| from != scale.replicas) {
                return Err(PlatformError::Unavailable(format!(
                    "{target} was set to {} replicas by somebody else meanwhile; it is decided again",
                    scale.replicas
                )));
            }
            let allowed = if replicas > scale.replicas {
                let free = match self.replica_pods(target, &scale.version).await {
                    Ok(pods) => Capacity::of(&self.view(target, &pods)?).free.slices.unwrap_or(0),
                    // The first replica's pod will show it.
                    Err(PlatformError::ClaimUnknown(_)) => u32::from(scale.replicas == 0),
                    Err(error) => return Err(error),
                };
                replicas.min(scale.replicas.saturating_add(free))
            } else {
                replicas
            };
            if allowed == scale.replicas {
                return Ok(allowed);
            }
            if !*self.leads.borrow() {
                return Err(PlatformError::Unavailable("this process does not lead any more".to_owned()));
            }
            match self.scales.set(target, &scale.version, allowed).await? {
                Set::Done => {
                    if let Some(known) = self.known().get_mut(target) {
                        known.asked = allowed;
                    }
                    return Ok(allowed);
                }
                Set::Conflict => tracing::debug!(%target, "The target changed in between; trying again."),
            }
        }
        Err(PlatformError::Unavailable(format!(
            "{target} is changed by others all the time; it is decided again"
        )))
    }

    async fn capacity(&self, target: &ScaleTarget) -> Result<CapacityView, PlatformError> {
        let read = {
            let all = self.known();
            let template = all.get(target).and_then(|known| known.template.as_ref());
            template.map(|(version, _)| version.clone())
        };
        let pods = self.replica_pods(target, &read.unwrap_or_default()).await?;
        self.view(target, &pods)
    }
}

fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

fn not_listed(what: &str) -> PlatformError {
    PlatformError::Unavailable(format!("{what} were not listed yet; is the API server reachable?"))
}
