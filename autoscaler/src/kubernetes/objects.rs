//! Watches the InferenceAutoscalers of a cluster. Each is parsed on its own: one that this version cannot read, or that
//! names the target of another one, is ignored with a reason, and the others are followed.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use sluice_config::api::InferenceAutoscaler;
use sluice_config::api::inference_autoscaler::InferenceAutoscalerStatus;
use sluice_inventory_watch::reflect::Reflected;
use sluice_process::settings::from_value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::platform::kubernetes::kinds::group;
use crate::platform::target_of;
use crate::platform::{ScaleTarget, Target};

/// Watch of all InferenceAutoscalers.
pub(crate) struct Objects {
    all: Reflected<DynamicObject>,
    changed: watch::Receiver<u64>,
}

/// Present InferenceAutoscalers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    /// Objects to follow.
    pub autoscalers: BTreeMap<Target, Arc<InferenceAutoscaler>>,
    /// Objects to ignore, with the reason.
    pub ignored: BTreeMap<Target, IgnoredObject>,
}

/// Object that is not followed, with the reason.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct IgnoredObject {
    /// One CamelCase word.
    pub reason: &'static str,
    /// Explanation: what is wrong and what to do.
    pub message: String,
    /// Generation of the object.
    pub generation: Option<i64>,
    /// Present status of the object.
    pub status: InferenceAutoscalerStatus,
}

impl Objects {
    /// Starts to watch those of `namespace`, or all where it is `None`, until `stop`.
    pub(crate) fn start(client: Client, namespace: Option<&str>, stop: &CancellationToken) -> Self {
        let kind = kind();
        let api = match namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &kind),
            None => Api::all_with(client, &kind),
        };
        let changes = Arc::new(watch::Sender::new(0));
        let changed = changes.subscribe();
        Self { all: Reflected::start_with(api, kind, |_| (), &changes, stop), changed }
    }

    /// Waits until they were listed once.
    pub(crate) async fn listed(&self) {
        self.all.listed().await;
    }

    /// Returns a receiver that changes whenever one of them does.
    pub(crate) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.clone()
    }

    /// Returns the present objects; `None` before they were listed.
    pub(crate) fn found(&self) -> Option<Found> {
        Some(sort(self.all.all()?.iter().map(AsRef::as_ref)))
    }
}

/// Returns the kind as a cluster serves it.
pub(crate) fn kind() -> ApiResource {
    ApiResource::erase::<InferenceAutoscaler>(&())
}

/// Parses each object. Of several that name the same target the oldest is followed (pure).
pub(crate) fn sort<'a>(objects: impl Iterator<Item = &'a DynamicObject>) -> Found {
    let mut found = Found::default();
    let mut read: Vec<(Target, Arc<InferenceAutoscaler>)> = Vec::new();
    for object in objects {
        let name = Target {
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            name: object.metadata.name.clone().unwrap_or_default(),
        };
        match parse(object) {
            Ok(autoscaler) => read.push((name, Arc::new(autoscaler))),
            Err(error) => {
                let status = object.data.get("status").cloned().unwrap_or_default();
                let ignored = IgnoredObject {
                    reason: "InvalidSpec",
                    message: error.to_string(),
                    generation: object.metadata.generation,
                    status: serde_json::from_value(status).unwrap_or_default(),
                };
                found.ignored.insert(name, ignored);
            }
        }
    }
    let made = |object: &InferenceAutoscaler| object.metadata.creation_timestamp.as_ref().map(|Time(at)| *at);
    read.sort_by_key(|(name, object)| (made(object), name.clone()));
    let mut scaled_by: BTreeMap<ScaleTarget, Target> = BTreeMap::new();
    for (name, object) in read {
        let mut target = target_of(&object);
        // Two versions of one kind are the same objects.
        target.api_version = group(&target.api_version).to_owned();
        if let Some(other) = scaled_by.get(&target) {
            let ignored = IgnoredObject {
                reason: "AmbiguousTarget",
                message: format!("{target} is scaled by {other} already; remove one of them"),
                generation: object.metadata.generation,
                status: object.status.clone().unwrap_or_default(),
            };
            found.ignored.insert(name, ignored);
        } else {
            scaled_by.insert(target, name.clone());
            found.autoscalers.insert(name, object);
        }
    }
    found
}

fn parse(object: &DynamicObject) -> anyhow::Result<InferenceAutoscaler> {
    let value = serde_json::to_value(object)?;
    let object: InferenceAutoscaler = from_value(value).map_err(anyhow::Error::msg)?;
    object.spec.validate().map_err(anyhow::Error::msg)?;
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn object(name: &str, second: u32, change: Value) -> DynamicObject {
        let mut value = json!({
            "apiVersion": "sluice.dev/v1alpha1", "kind": "InferenceAutoscaler",
            "metadata": {
                "namespace": "ns", "name": name, "generation": 3,
                "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z"),
            },
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "bert"},
                "model": "bert", "objective": {"percentile": 99, "latencyMs": 300}, "maxReplicas": 3,
            },
        });
        json_patch::merge(&mut value, &change);
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn one_that_cannot_be_read_keeps_no_other_from_being_followed() {
        let odd = object("odd", 1, json!({"spec": {"maxReplica": 3}}));
        let wrong = object("wrong", 1, json!({"spec": {"objective": {"percentile": 100}}}));
        let found = sort([&object("good", 2, json!({})), &odd, &wrong].into_iter());
        assert_eq!(found.autoscalers.len(), 1);
        let ignored: Vec<_> = found.ignored.values().collect();
        assert!(ignored[0].message.contains("did you mean `maxReplicas`?"), "{ignored:?}");
        assert!(ignored[1].message.contains("spec.objective.percentile is 100"), "{ignored:?}");
        assert_eq!(ignored[0].generation, Some(3));
    }

    #[test]
    fn of_two_that_scale_one_target_the_older_one_counts() {
        let newer = object("a", 9, json!({"spec": {"scaleTargetRef": {"apiVersion": "apps/v1beta9"}}}));
        let other = object("c", 9, json!({"spec": {"scaleTargetRef": {"kind": "StatefulSet"}}}));
        let found = sort([&newer, &object("b", 2, json!({})), &other].into_iter());
        let followed: Vec<_> = found.autoscalers.keys().map(|target| target.name.as_str()).collect();
        assert_eq!(followed, ["b", "c"]);
        let ignored = found.ignored.values().next().unwrap();
        assert_eq!(ignored.reason, "AmbiguousTarget");
        assert!(ignored.message.contains("scaled by ns/b already"), "{}", ignored.message);
    }
}
