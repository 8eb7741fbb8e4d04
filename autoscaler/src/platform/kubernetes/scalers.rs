//! Watches HorizontalPodAutoscalers, to find those that scale the same replicas.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::{CrossVersionObjectReference, HorizontalPodAutoscaler};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use sluice_inventory_watch::reflect::Reflected;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::kinds::group;
use crate::platform::ScaleTarget;

/// Time limit of the first list. Scaling goes on without it, because a role may forbid it.
const LISTED_WITHIN: Duration = Duration::from_secs(5);

/// A watch of all HorizontalPodAutoscalers.
pub(super) struct Scalers {
    all: Reflected<HorizontalPodAutoscaler>,
}

impl Scalers {
    /// Starts the watch, which ends at `stop`.
    pub(super) fn start(
        api: Api<HorizontalPodAutoscaler>,
        changed: &Arc<watch::Sender<u64>>,
        stop: &CancellationToken,
    ) -> Self {
        Self { all: Reflected::start(api, trim, changed, stop) }
    }

    /// Resolves when they were listed, or when that took too long, which is logged.
    pub(super) async fn ready(&self) {
        if tokio::time::timeout(LISTED_WITHIN, self.all.listed()).await.is_err() {
            tracing::warn!(
                "Failed to list HorizontalPodAutoscalers, so one on the same target is not noticed; allow list and \
                 watch of horizontalpodautoscalers in group autoscaling."
            );
        }
    }

    /// Returns a sentence about an HPA that scales the target or a controller of its pods, with what to do; `None`
    /// where no HPA does.
    pub(super) fn rival(&self, target: &ScaleTarget, controllers: &[OwnerReference]) -> Option<String> {
        rival(self.all.all()?.iter().map(AsRef::as_ref), target, controllers)
    }
}

/// Drops the parts of an HPA that are not read here.
fn trim(hpa: &mut HorizontalPodAutoscaler) {
    hpa.metadata.annotations = None;
    hpa.metadata.labels = None;
    hpa.status = None;
    if let Some(spec) = &mut hpa.spec {
        spec.metrics = None;
        spec.behavior = None;
    }
}

fn rival<'a>(
    all: impl Iterator<Item = &'a HorizontalPodAutoscaler>,
    target: &ScaleTarget,
    controllers: &[OwnerReference],
) -> Option<String> {
    let mut found =
        all.filter(|hpa| hpa.metadata.namespace.as_ref() == Some(&target.at.namespace)).filter_map(|hpa| {
            let reference = &hpa.spec.as_ref()?.scale_target_ref;
            let is_same = names(reference, &target.api_version, &target.kind, &target.at.name);
            let is_above =
                || controllers.iter().any(|one| names(reference, &one.api_version, &one.kind, &one.name));
            (is_same || is_above()).then_some((hpa, reference, is_same))
        });
    let (hpa, reference, is_same) = found.next()?;
    let more = found.count();
    let name = hpa.metadata.name.as_deref().unwrap_or_default();
    let owners = hpa.metadata.owner_references.as_deref().unwrap_or_default();
    // KEDA creates an HPA again when only the HPA is deleted.
    let (made_by, remove) = match owners.iter().find(|owner| owner.kind == "ScaledObject") {
        Some(owner) => {
            (format!(", made by ScaledObject {}", owner.name), format!("that ScaledObject {}", owner.name))
        }
        None => (String::new(), format!("HorizontalPodAutoscaler {name}")),
    };
    let scales = if is_same {
        format!("scales {target} too")
    } else {
        format!("scales {} {}, whose pods {target} has too", reference.kind, reference.name)
    };
    let more = if more > 0 { format!(", and so do {more} more") } else { String::new() };
    Some(format!(
        "HorizontalPodAutoscaler {}/{name}{made_by} {scales}{more}; delete {remove}, or this InferenceAutoscaler. \
         Until then nothing is written here",
        target.at.namespace
    ))
}

/// Returns whether a reference names this object. All versions of a group are the same objects, and Deployments once
/// belonged to other groups.
fn names(reference: &CrossVersionObjectReference, api_version: &str, kind: &str, name: &str) -> bool {
    let usual = |version: &str| match group(version) {
        "" | "extensions" if matches!(kind, "Deployment" | "ReplicaSet" | "StatefulSet") => "apps".to_owned(),
        other => other.to_owned(),
    };
    reference.kind == kind
        && reference.name == name
        && usual(reference.api_version.as_deref().unwrap_or_default()) == usual(api_version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::Target;
    use serde_json::{Value, json};

    fn target() -> ScaleTarget {
        ScaleTarget {
            at: Target { namespace: "ns".to_owned(), name: "bert".to_owned() },
            api_version: "apps/v1".to_owned(),
            kind: "Deployment".to_owned(),
        }
    }

    fn hpa(namespace: &str, api_version: &str, kind: &str, name: &str) -> Value {
        json!({
            "metadata": {"namespace": namespace, "name": "other"},
            "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": api_version, "kind": kind, "name": name}},
        })
    }

    fn found(hpa: Value) -> Option<String> {
        let set = OwnerReference {
            api_version: "apps/v1".to_owned(),
            kind: "ReplicaSet".to_owned(),
            name: "bert-1".to_owned(),
            ..OwnerReference::default()
        };
        rival([&serde_json::from_value(hpa).unwrap()].into_iter(), &target(), &[set])
    }

    #[test]
    fn whoever_scales_the_same_pods_is_a_rival_whatever_it_calls_them() {
        for (api_version, kind, name) in [
            ("apps/v1", "Deployment", "bert"),
            ("apps/v1beta1", "Deployment", "bert"),
            ("extensions/v1beta1", "Deployment", "bert"),
            ("", "Deployment", "bert"),
            ("apps/v1", "ReplicaSet", "bert-1"),
        ] {
            let message = found(hpa("ns", api_version, kind, name)).unwrap_or_default();
            assert!(message.contains("HorizontalPodAutoscaler ns/other"), "{api_version} {kind}: {message}");
        }
        for (namespace, api_version, kind, name) in [
            ("elsewhere", "apps/v1", "Deployment", "bert"),
            ("ns", "apps/v1", "Deployment", "bert-2"),
            ("ns", "apps/v1", "StatefulSet", "bert"),
            ("ns", "example.com/v1", "Deployment", "bert"),
        ] {
            assert_eq!(
                found(hpa(namespace, api_version, kind, name)),
                None,
                "{namespace} {api_version} {kind} {name}"
            );
        }
    }

    #[test]
    fn of_kedas_hpa_the_scaled_object_is_named() {
        let mut made = hpa("ns", "apps/v1", "Deployment", "bert");
        made["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "queue", "uid": "1"}]);
        let message = found(made).unwrap();
        assert!(message.contains("made by ScaledObject queue"), "{message}");
    }
}
