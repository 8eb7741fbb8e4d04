//! Store of a cluster: its API server.

mod events;
#[cfg(test)]
mod tests;
mod version;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim, ResourceSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::events::Recorder;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use sluice_inventory::SliceLayout;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::{ClaimEvent, ClaimRef, Store, StoreError, has_counters, has_taints};

/// Time limit of one API call. It must be well below the kubelet's 45 s for a whole prepare.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// Period of comparing the slices even without a watch event. This also notices an upgraded API server.
const RESYNC: Duration = Duration::from_secs(300);

/// Maximum tries to replace a slice that another program changes at the same time.
const PUT_TRIES: usize = 5;

/// Prefix of the names of trial objects, which are never stored.
const TRIAL_NAME: &str = "sluice-trial-";

pub(crate) struct ClusterStore {
    client: Client,
    slices: Api<ResourceSlice>,
    nodes: Api<Node>,
    node: String,
    recorder: Recorder,
    changed: Arc<Notify>,
    _watch: AbortOnDropHandle<()>,
}

impl ClusterStore {
    /// Starts to watch the slices of `driver` on `node`. The watch ends with the store.
    pub(crate) fn start(client: Client, driver: &str, node: &str) -> Self {
        let changed = Arc::new(Notify::new());
        let metadata: Api<PartialObjectMeta<ResourceSlice>> = Api::all(client.clone());
        let watching = watch(metadata, selector(driver, node), Arc::clone(&changed));
        Self {
            slices: Api::all(client.clone()),
            nodes: Api::all(client.clone()),
            recorder: events::recorder(client.clone(), driver, node),
            client,
            node: node.to_owned(),
            changed,
            _watch: AbortOnDropHandle::new(tokio::spawn(watching)),
        }
    }

    /// Returns the node as owner, so that its slices are deleted when it leaves the cluster. It is read each time,
    /// because a new node may have the same name.
    async fn owner(&self) -> Result<OwnerReference, StoreError> {
        let what = format!("Node {}", self.node);
        let uid = match in_time(self.nodes.get_metadata(&self.node)).await {
            Ok(node) => node.metadata.uid.unwrap_or_default(),
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                return Err(StoreError(format!(
                    "{what} does not exist; nodeName must be the name of this machine's Node object"
                )));
            }
            Err(error) => return Err(failed(&what)(error)),
        };
        Ok(OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: self.node.clone(),
            uid,
            controller: Some(true),
            block_owner_deletion: None,
        })
    }

    /// Returns what the server would store of a slice, by a dry run.
    async fn trial(&self, slice: &ResourceSlice) -> Result<ResourceSlice, StoreError> {
        let trial = ResourceSlice {
            metadata: ObjectMeta { generate_name: Some(TRIAL_NAME.to_owned()), ..ObjectMeta::default() },
            spec: slice.spec.clone(),
        };
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        in_time(self.slices.create(&dry_run, &trial)).await.map_err(failed("trial of a ResourceSlice"))
    }

    /// Tries once to create or replace a slice; `None` if another program changed it meanwhile.
    async fn try_put(&self, slice: &ResourceSlice, name: &str) -> kube::Result<Option<ResourceSlice>> {
        let parameters = PostParams::default();
        let (written, lost_to_another) = match in_time(self.slices.get_metadata_opt(name)).await? {
            None => (in_time(self.slices.create(&parameters, slice)).await, &[409][..]),
            Some(existing) => {
                let mut slice = slice.clone();
                slice.metadata.resource_version = existing.metadata.resource_version;
                (in_time(self.slices.replace(name, &parameters, &slice)).await, &[409, 404][..])
            }
        };
        match written {
            Ok(stored) => Ok(Some(stored)),
            Err(kube::Error::Api(status)) if lost_to_another.contains(&status.code) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Returns the field selector of the slices of one driver on one node.
fn selector(driver: &str, node: &str) -> String {
    format!("spec.nodeName={node},spec.driver={driver}")
}

/// Notifies the publisher whenever slices changed, until it is dropped.
async fn watch(slices: Api<PartialObjectMeta<ResourceSlice>>, selector: String, changed: Arc<Notify>) {
    let events = watcher(slices, watcher::Config::default().fields(&selector)).default_backoff();
    pin_mut!(events);
    let mut failing = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init | Event::InitApply(_)) => {}
            Ok(Event::InitDone | Event::Apply(_) | Event::Delete(_)) => {
                failing = false;
                changed.notify_one();
            }
            Err(error) => {
                // Tries follow each other, so an outage is logged once.
                if !failing {
                    tracing::warn!(%error, "Failed to watch ResourceSlices, retrying.");
                }
                failing = true;
            }
        }
    }
}

/// Returns the result of a call, or an error if it takes too long.
async fn in_time<T>(call: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    let late = || kube::Error::Service(format!("no answer within {} s", ANSWER_DEADLINE.as_secs()).into());
    tokio::time::timeout(ANSWER_DEADLINE, call).await.unwrap_or_else(|_| Err(late()))
}

/// Converts an error of the client to a text that names the object.
fn failed(what: &str) -> impl Fn(kube::Error) -> StoreError + '_ {
    move |error| {
        StoreError(match error {
            kube::Error::Api(status) => {
                format!(
                    "{what}: the API server answers {} {}: {}",
                    status.code, status.reason, status.message
                )
            }
            // The outer error only says that a request failed.
            error => format!("{what}: the API server cannot be asked: {:#}", anyhow::Error::from(error)),
        })
    }
}

/// Returns whether a response means that no object has this name. The code 404 alone does not: a server that does not
/// serve the kind, or another program at its address, responds the same.
fn says_absent(status: &kube::core::Status, name: &str) -> bool {
    let details = status.details.as_ref();
    status.reason == "NotFound" && details.is_some_and(|details| details.name == name)
}

#[async_trait]
impl Store for ClusterStore {
    async fn slice_layout(&self) -> Result<SliceLayout, StoreError> {
        let version =
            in_time(self.client.apiserver_version()).await.map_err(failed("the server's version"))?;
        version::slice_layout(&version.major, &version.minor)
    }

    async fn slices(&self, driver: &str, node: &str) -> Result<Vec<ResourceSlice>, StoreError> {
        let list = ListParams::default().fields(&selector(driver, node));
        let list = in_time(self.slices.list(&list)).await.map_err(failed("ResourceSlices"))?;
        Ok(list.items)
    }

    async fn keeps_counters(&self, slice: &ResourceSlice) -> Result<bool, StoreError> {
        Ok(kept_counters(slice, &self.trial(slice).await?))
    }

    async fn keeps_taints(&self, slice: &ResourceSlice) -> Result<bool, StoreError> {
        Ok(kept_taints(slice, &self.trial(slice).await?))
    }

    async fn put_slice(&self, slice: &ResourceSlice) -> Result<(), StoreError> {
        let mut slice = slice.clone();
        let name = slice.metadata.name.clone().unwrap_or_default();
        let what = format!("ResourceSlice {name}");
        slice.metadata.owner_references = Some(vec![self.owner().await?]);
        for _ in 0..PUT_TRIES {
            let Some(stored) = self.try_put(&slice, &name).await.map_err(failed(&what))? else { continue };
            if kept_counters(&slice, &stored) && kept_taints(&slice, &stored) {
                return Ok(());
            }
            // One of several API servers has a feature off. Nothing may be allocated from its slice.
            self.delete_slice(&name).await?;
            return Err(StoreError(format!("{what}: an API server dropped its counters or its taints")));
        }
        Err(StoreError(format!("{what}: somebody else changed it during each of {PUT_TRIES} tries")))
    }

    async fn delete_slice(&self, name: &str) -> Result<(), StoreError> {
        match in_time(self.slices.delete(name, &DeleteParams::default())).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(failed(&format!("ResourceSlice {name}"))(error)),
        }
    }

    async fn slices_changed(&self) {
        // A timeout is treated as an event.
        let _ = tokio::time::timeout(RESYNC, self.changed.notified()).await;
    }

    async fn claim(&self, namespace: &str, name: &str) -> Result<Option<ResourceClaim>, StoreError> {
        let claims: Api<ResourceClaim> = Api::namespaced(self.client.clone(), namespace);
        match in_time(claims.get(name)).await {
            Ok(claim) => Ok(Some(claim)),
            Err(kube::Error::Api(status)) if says_absent(&status, name) => Ok(None),
            Err(error) => Err(failed(&format!("ResourceClaim {namespace}/{name}"))(error)),
        }
    }

    async fn node(&self, name: &str) -> Result<Option<Node>, StoreError> {
        in_time(self.nodes.get_opt(name)).await.map_err(failed(&format!("Node {name}")))
    }

    async fn claims(&self) -> Result<Vec<ResourceClaim>, StoreError> {
        let claims: Api<ResourceClaim> = Api::all(self.client.clone());
        let list = in_time(claims.list(&ListParams::default())).await.map_err(failed("ResourceClaims"))?;
        Ok(list.items)
    }

    async fn publish_event(&self, claim: &ClaimRef, event: &ClaimEvent) {
        let name = format!("{}/{}", claim.namespace, claim.name);
        tracing::warn!(claim = name, uid = claim.uid, reason = event.reason, "{}", event.message);
        // Without the object, the event is only published on the claim.
        let object = self.claim(&claim.namespace, &claim.name).await.ok().flatten();
        for about in events::concerned(claim, object.as_ref()) {
            let event = events::warning(event);
            if let Err(error) = in_time(self.recorder.publish(&event, &about)).await {
                tracing::warn!(claim = name, %error, "Failed to publish a Kubernetes Event.");
            }
        }
    }

    async fn offer_classes(&self, _: &[DeviceClass]) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Returns whether the stored slice still has the counters that were sent.
fn kept_counters(sent: &ResourceSlice, stored: &ResourceSlice) -> bool {
    !has_counters(sent) || has_counters(stored)
}

/// Returns whether the stored slice still has the taints that were sent.
fn kept_taints(sent: &ResourceSlice, stored: &ResourceSlice) -> bool {
    !has_taints(sent) || has_taints(stored)
}
