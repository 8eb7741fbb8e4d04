//! Owners of pods: the controllers above them, read from the API server as far as the role allows, and cached.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use kube::{Api, Client};
use tokio::time::Instant;

use super::attribution::{self, Attribution, Chain, End, attribute};
use super::scale::{Scale, answer};
use super::{kinds, pods};
use crate::platform::{PlatformError, ScaleTarget};

/// Time for which an object's controller is cached; it hardly ever changes.
const REMEMBER: Duration = Duration::from_secs(300);
/// Time for which it is cached that an object has no controller or may not be read; a user may correct that.
const REMEMBER_NONE: Duration = Duration::from_secs(15);
/// Maximum number of controllers above each other; more means a cycle.
const MOST_ABOVE: usize = 8;
/// Number of cached entries from which old ones are dropped.
const MANY: usize = 1024;
/// Maximum number of objects that one pass over a target reads; the next passes read the others.
const MOST_READS: u32 = 32;

/// Controllers of objects by the objects' UIDs.
pub(super) struct Owners {
    client: Client,
    seen: Mutex<HashMap<String, (Instant, Seen)>>,
    /// Kinds that may not be read; each is logged once.
    forbidden: Mutex<BTreeSet<String>>,
}

/// What is known about an object's controller.
#[derive(Debug, Clone)]
enum Seen {
    Controller(OwnerReference),
    None,
    Gone,
    Unknown,
}

/// Pods that a target's selector matches, sorted by owner.
#[derive(Debug, Default)]
pub(super) struct Sorted<'a> {
    /// Pods of the target.
    pub own: Vec<&'a Pod>,
    /// UIDs of pods that are not the target's.
    pub foreign: Vec<String>,
    /// Owners of those foreign pods that run or will run.
    pub others: Vec<String>,
    /// Controllers above the target's own pods, each once, the target among them.
    pub controllers: Vec<OwnerReference>,
}

impl Sorted<'_> {
    fn leave_out(&mut self, pod: &Pod, owner: String) {
        self.foreign.extend(pod.metadata.uid.clone());
        // Finished pods serve no requests any more.
        if pods::is_live(pod) {
            self.others.push(owner);
        }
    }
}

impl Owners {
    /// Creates one that asks the client's API server.
    pub(super) fn new(client: Client) -> Self {
        Self { client, seen: Mutex::default(), forbidden: Mutex::default() }
    }

    /// Sorts the pods that the target's selector matches by their owner; `all` are the pods of the cluster.
    pub(super) async fn sort<'a>(
        &self,
        target: &ScaleTarget,
        scale: &Scale,
        matched: Vec<&'a Pod>,
        all: &[Arc<Pod>],
    ) -> Result<Sorted<'a>, PlatformError> {
        let uid = scale.uid.as_deref();
        let mut sorted = Sorted::default();
        let mut reads_left = MOST_READS;
        let mut bare = Vec::new();
        let mut has_proven = false;
        for pod in matched {
            let chain = self.chain(target, uid, pod, all, &mut reads_left).await?;
            match attribute(target, uid, pod, &chain) {
                Attribution::Own => {
                    has_proven = true;
                    sorted.own.push(pod);
                    for owner in chain.owners {
                        if !sorted.controllers.iter().any(|known| known.uid == owner.uid) {
                            sorted.controllers.push(owner);
                        }
                    }
                }
                Attribution::ByLabels => sorted.own.push(pod),
                Attribution::Bare => bare.push(pod),
                Attribution::Leaving => sorted.foreign.extend(pod.metadata.uid.clone()),
                Attribution::Other(name) => sorted.leave_out(pod, name),
            }
        }
        if has_proven {
            for pod in bare {
                sorted.leave_out(pod, format!("pod {}, which has no controller", pods::name(pod)));
            }
        } else {
            sorted.own.extend(bare);
        }
        Ok(sorted)
    }

    async fn chain(
        &self,
        target: &ScaleTarget,
        uid: Option<&str>,
        pod: &Pod,
        all: &[Arc<Pod>],
        reads_left: &mut u32,
    ) -> Result<Chain, PlatformError> {
        let mut chain = Chain::default();
        let mut next = controller(pod.metadata.owner_references.as_deref());
        while let Some(owner) = next {
            let is_target = attribution::is_target(target, uid, &owner);
            chain.owners.push(owner.clone());
            if chain.owners.len() >= MOST_ABOVE {
                chain.end = End::Unknown;
                break;
            }
            let seen = match owner.kind.as_str() {
                // The leader of a group controls its workers.
                "Pod" => match all.iter().find(|pod| pod.metadata.uid.as_ref() == Some(&owner.uid)) {
                    Some(pod) => controller(pod.metadata.owner_references.as_deref())
                        .map_or(Seen::None, Seen::Controller),
                    None => Seen::Gone,
                },
                _ => self.above(target, &owner, is_target, reads_left).await?,
            };
            next = None;
            match seen {
                Seen::Controller(controller) => next = Some(controller),
                Seen::None => {}
                Seen::Gone => chain.end = End::Gone,
                Seen::Unknown => chain.end = End::Unknown,
            }
        }
        Ok(chain)
    }

    /// Returns the controller of an owner.
    async fn above(
        &self,
        target: &ScaleTarget,
        owner: &OwnerReference,
        is_target: bool,
        reads_left: &mut u32,
    ) -> Result<Seen, PlatformError> {
        let is_usual = kinds::group(&owner.api_version) == "apps";
        if !is_usual && (is_target || attribution::is_followed(target)) {
            // No controller of such a target's pods is of another kind; what is above the target is not followed.
            return Ok(Seen::None);
        }
        if let Some((_, seen)) = self.seen().get(&owner.uid).filter(|(at, seen)| is_fresh(*at, seen)) {
            return Ok(seen.clone());
        }
        let Some(left) = reads_left.checked_sub(1) else { return Ok(Seen::Unknown) };
        *reads_left = left;
        let seen = self.read(target, owner).await?;
        let mut all = self.seen();
        if all.len() >= MANY {
            all.retain(|_, (at, seen)| is_fresh(*at, seen));
        }
        all.insert(owner.uid.clone(), (Instant::now(), seen.clone()));
        Ok(seen)
    }

    async fn read(&self, target: &ScaleTarget, owner: &OwnerReference) -> Result<Seen, PlatformError> {
        let Some(kind) = self.kind(target, owner).await? else { return Ok(Seen::Unknown) };
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &target.at.namespace, &kind);
        let read = async {
            match api.get_metadata(&owner.name).await {
                Ok(object) if object.metadata.uid.as_ref() != Some(&owner.uid) => Ok(Seen::Gone),
                Ok(object) => Ok(controller(object.metadata.owner_references.as_deref())
                    .map_or(Seen::None, Seen::Controller)),
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(Seen::Gone),
                Err(kube::Error::Api(status)) if status.code == 403 => {
                    self.warn_forbidden(target, owner);
                    Ok(Seen::Unknown)
                }
                Err(error) => Err(error),
            }
        };
        answer(&format!("GET {} {}, which controls a pod", owner.kind, owner.name), target, read).await
    }

    async fn kind(
        &self,
        target: &ScaleTarget,
        owner: &OwnerReference,
    ) -> Result<Option<ApiResource>, PlatformError> {
        Ok(match (kinds::group(&owner.api_version), owner.kind.as_str()) {
            ("apps", "ReplicaSet") => Some(ApiResource::erase::<ReplicaSet>(&())),
            ("apps", "StatefulSet") => Some(ApiResource::erase::<StatefulSet>(&())),
            ("apps", "Deployment") => Some(ApiResource::erase::<Deployment>(&())),
            _ => {
                let found = kinds::find(&self.client, &owner.api_version, &owner.kind);
                answer("discovery of the owners", target, found).await?.map(|(kind, _)| kind)
            }
        })
    }

    fn warn_forbidden(&self, target: &ScaleTarget, owner: &OwnerReference) {
        let mut warned = self.forbidden.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.insert(format!("{}/{}", owner.api_version, owner.kind)) {
            tracing::warn!(
                name = %target, api_version = owner.api_version, kind = owner.kind,
                "Failed to read an owner of pods: forbidden. Pods of this kind count as the target's; allow the autoscaler to \
                 get this kind."
            );
        }
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<String, (Instant, Seen)>> {
        // A thread that panicked left complete entries behind.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_fresh(at: Instant, seen: &Seen) -> bool {
    at.elapsed() < if matches!(seen, Seen::Controller(_)) { REMEMBER } else { REMEMBER_NONE }
}

fn controller(owners: Option<&[OwnerReference]>) -> Option<OwnerReference> {
    owners.unwrap_or_default().iter().find(|owner| owner.controller == Some(true)).cloned()
}
