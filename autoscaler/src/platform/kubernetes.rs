//! Platform `kubernetes`: replicas are pods of whatever has a scale subresource, slices are what the
//! scheduler would place them on.
//!
//! ```text
//!  scale ──GET, PATCH──▶ asked, selector ─────────┐
//!  pods ──watch─┬▶ ready, starting, start-up time ┼▶ Replicas
//!               └▶ sidecars, or the gateway's pods ┘
//!  inventory ──watch──▶ slices, claims, classes, nodes ┐
//!  templates ──watch──▶ class of each pod's claim ─────┴─▶ CapacityView
//! ```
//!
//! Only `*/scale` is ever written here, and only while this process is the leader.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::api::resource::v1::ResourceClaimTemplate;
use kube::core::{Expression, Selector, SelectorExt};
use kube::{Api, Client};
use sluice_config::api::inference_autoscaler::Gateway;
use sluice_config::names::pod as names;
use sluice_inventory_watch::InventoryWatch;
use sluice_inventory_watch::reflect::Reflected;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Batcher, Platform, PlatformError, Replicas, ScaleTarget};
use crate::capacity::{Capacity, CapacityView};

pub mod batchers;
pub mod claims;
pub mod pods;
pub mod scale;
pub mod selector;
pub mod startup;

use claims::{Missing, Templates};
use scale::{Scale, Scales, Set};
use startup::Startup;

/// A target of which nobody asked for so long, many ticks, is not scaled any more.
const FORGET_AFTER: Duration = Duration::from_secs(10);
/// Tries of one change when others change the target too.
const TRIES: u32 = 3;

/// The cluster as controllers see it.
pub struct KubernetesPlatform {
    scales: Scales,
    pods: Reflected<Pod>,
    templates: Reflected<ResourceClaimTemplate>,
    inventory: InventoryWatch,
    /// Whether this process may write.
    leads: watch::Receiver<bool>,
    known: Mutex<BTreeMap<ScaleTarget, Known>>,
    /// Held from counting free slices until they are asked for: two targets must not count on the same one.
    growing: tokio::sync::Mutex<()>,
}

/// What is remembered of a target between two questions.
struct Known {
    asked: u32,
    selector: Selector,
    device_class: Option<String>,
    startup: Startup,
    /// The pods' specification, and the version of the target that it was read from.
    template: Option<(String, PodSpec)>,
    at: Instant,
}

impl KubernetesPlatform {
    /// Begins to watch; the watches end with `stop`. Pods are watched in `namespace`, or in all.
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
        Self {
            scales: Scales::new(client),
            pods: Reflected::start(pods, pods::trim, &changed, stop),
            templates: Reflected::start(templates, |_| (), &changed, stop),
            inventory,
            leads,
            known: Mutex::default(),
            growing: tokio::sync::Mutex::default(),
        }
    }

    /// Resolves when everything that is watched was listed once.
    pub async fn ready(&self) {
        tokio::join!(self.pods.listed(), self.templates.listed(), self.inventory.ready());
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<ScaleTarget, Known>> {
        // Whoever panicked left whole entries behind.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all_pods(&self) -> Result<Vec<Arc<Pod>>, PlatformError> {
        self.pods.all().ok_or_else(|| not_listed("pods"))
    }

    /// Reads the scale and remembers it.
    async fn look(&self, target: &ScaleTarget) -> Result<(Scale, Replicas), PlatformError> {
        let scale = self.scales.get(target).await?;
        let pods = self.all_pods()?;
        let pods = of_target(target, &scale.selector, &pods);
        let mut all = self.known();
        all.retain(|_, known| known.at.elapsed() < FORGET_AFTER);
        let known = all.entry(target.clone()).or_insert_with(|| Known {
            asked: scale.replicas,
            selector: scale.selector.clone(),
            device_class: None,
            startup: Startup::default(),
            template: None,
            at: Instant::now(),
        });
        known.asked = scale.replicas;
        known.selector = scale.selector.clone();
        known.at = Instant::now();
        known.startup.observe(&pods);
        let sidecars = batchers::sidecars(&pods);
        let replicas = pods::replicas(scale.replicas, &pods, known.startup.smoothed_ms(), sidecars);
        Ok((scale, replicas))
    }

    /// The processes of the gateway in front of the target.
    fn gateways(&self, target: &ScaleTarget, gateway: &Gateway) -> Result<Vec<Batcher>, PlatformError> {
        let labels = &gateway.match_labels;
        let selector = labels.iter().map(|(key, value)| Expression::Equal(key.clone(), value.clone()));
        let pods = self.all_pods()?;
        let found = batchers::gateways(&of_target(target, &selector.collect(), &pods));
        if found.is_empty() {
            // Held either way; like this it is said what to do.
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

    /// What placement depends on, counting every target's replicas that have no pod yet.
    fn view(&self, target: &ScaleTarget, spec: &PodSpec) -> Result<CapacityView, PlatformError> {
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
        let class = claims::device_class(&target.at.namespace, spec, &templates)
            .map_err(|problem| PlatformError::Unscalable(format!("{target}: {problem}")))?;
        if let Some(known) = all.get_mut(target) {
            known.device_class.clone_from(&class);
        }
        let missing: Vec<Missing> = all
            .iter()
            .filter_map(|(target, known)| {
                let there = of_target(target, &known.selector, &pods);
                let there = there.iter().filter(|pod| pods::is_live(pod)).count();
                let there = u32::try_from(there).unwrap_or(u32::MAX);
                Some(Missing {
                    device_class: known.device_class.clone()?,
                    replicas: known.asked.saturating_sub(there),
                    holder: target.at.to_string(),
                })
            })
            .collect();
        drop(all);
        let cluster = self.inventory.cluster_for(spec).ok_or_else(|| not_listed("ResourceSlices"))?;
        let pods: Vec<&Pod> = pods.iter().map(AsRef::as_ref).collect();
        let promised = claims::promised(&pods, &cluster.claims, &templates, &missing);
        let namespace = target.at.namespace.clone();
        Ok(CapacityView { namespace, cluster, device_class: class, promised })
    }

    /// The specification of the target's pods, read again when the target changed.
    async fn pod_spec(&self, target: &ScaleTarget, version: &str) -> Result<PodSpec, PlatformError> {
        {
            let all = self.known();
            let template = all.get(target).and_then(|known| known.template.as_ref());
            if let Some((_, spec)) = template.filter(|(known, _)| known == version) {
                return Ok(spec.clone());
            }
        }
        let spec = match self.scales.template(target).await? {
            Some(spec) => spec,
            None => self.spec_of_a_pod(target).await?,
        };
        if let Some(known) = self.known().get_mut(target) {
            known.template = Some((version.to_owned(), spec.clone()));
        }
        Ok(spec)
    }

    /// For kinds whose template is elsewhere: its pods are made from it.
    async fn spec_of_a_pod(&self, target: &ScaleTarget) -> Result<PodSpec, PlatformError> {
        let pods = self.all_pods()?;
        let all = self.known();
        let selector = all.get(target).map(|known| known.selector.clone()).unwrap_or_default();
        let pod = of_target(target, &selector, &pods).into_iter().find(|pod| pods::is_live(pod));
        pod.and_then(|pod| pod.spec.clone()).ok_or_else(|| {
            PlatformError::Unscalable(format!(
                "{target} has no spec.template and no pod yet, so what a replica claims is not known"
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
        if let Some(gateway) = gateway {
            // Every row passes the gateway; counted at the sidecars again it would count twice.
            replicas.batchers = self.gateways(target, gateway)?;
        } else if replicas.ready > 0 && replicas.batchers.is_empty() {
            // Held either way; like this it is said what to do.
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
        self.pod_spec(target, &scale.version).await.map(drop).or_else(|error| match error {
            // What it claims is the capacity's question.
            PlatformError::Unscalable(_) => Ok(()),
            error => Err(error),
        })?;
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
                let spec = self.pod_spec(target, &scale.version).await?;
                let free = Capacity::of(&self.view(target, &spec)?).free.slices.unwrap_or(0);
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
                Set::Conflict => tracing::debug!(%target, "The target changed meanwhile; trying again."),
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
        let spec = self.pod_spec(target, &read.unwrap_or_default()).await?;
        self.view(target, &spec)
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

fn of_target<'a>(target: &ScaleTarget, selector: &Selector, pods: &'a [Arc<Pod>]) -> Vec<&'a Pod> {
    let none = BTreeMap::new();
    pods.iter()
        .map(AsRef::as_ref)
        .filter(|pod| {
            pod.metadata.namespace.as_ref() == Some(&target.at.namespace)
                && selector.matches(pod.metadata.labels.as_ref().unwrap_or(&none))
        })
        .collect()
}

fn not_listed(what: &str) -> PlatformError {
    PlatformError::Unavailable(format!("{what} were not listed yet; is the API server reachable?"))
}
