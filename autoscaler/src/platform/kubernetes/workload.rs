//! Reads from the scaled object what its scale does not have: its revision, how a rollout treats old pods, and whether pods
//! cannot be created (pure).

use kube::core::DynamicObject;
use serde_json::Value;
use sluice_scaling_policy::Surrender;

use super::kinds::group;
use super::standing::plain;

/// Label of a Deployment's pods with the hash of their ReplicaSet.
pub(super) const TEMPLATE_HASH: &str = "pod-template-hash";
/// Annotation of Deployments and their ReplicaSets.
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
/// Default of a Deployment's `maxSurge` and `maxUnavailable`.
const QUARTER: &str = "25%";

/// Facts that an object states about its pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Workload {
    /// Mark of pods of the newest revision.
    pub newest: Newest,
    /// Whether a rollout removes old pods before new ones are ready.
    pub surrender: Surrender,
    /// Reason why pods cannot be created, and since when; `None` where they can.
    pub failure: Option<(String, String)>,
}

/// Mark of pods of the newest revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Newest {
    /// They belong to the ReplicaSet with this revision.
    ReplicaSet(String),
    /// They have this label with this value.
    Label(&'static str, String),
    /// They cannot be recognised.
    Unknown,
}

impl Default for Workload {
    fn default() -> Self {
        Self { newest: Newest::Unknown, surrender: Surrender::Unknown, failure: None }
    }
}

impl Workload {
    /// Reads an object of this group, with or without version, and kind.
    pub(super) fn of(api_version: &str, kind: &str, object: &DynamicObject) -> Self {
        let text = |pointer: &str| object.data.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let label =
            |label, pointer| text(pointer).map_or(Newest::Unknown, |value| Newest::Label(label, value));
        let (newest, surrender) = match (group(api_version), kind) {
            ("apps", "Deployment") => {
                let revision = object.metadata.annotations.as_ref().and_then(|all| all.get(REVISION));
                let newest = revision.map_or(Newest::Unknown, |found| Newest::ReplicaSet(found.clone()));
                (newest, of_deployment(&object.data["spec"]))
            }
            // It removes a pod before it creates its replacement.
            ("apps", "StatefulSet") => {
                (label("controller-revision-hash", "/status/updateRevision"), Surrender::ByItself)
            }
            // A canary follows its user's own plan.
            ("argoproj.io", "Rollout") => {
                (label("rollouts-pod-template-hash", "/status/currentPodHash"), Surrender::Unknown)
            }
            _ => (Newest::Unknown, Surrender::Unknown),
        };
        Self { newest, surrender, failure: failure(&object.data["status"]) }
    }
}

/// Reads how a Deployment treats old pods. `maxUnavailable` of a percentage is rounded down, `maxSurge` up; where both are 0, one pod may be unavailable.
fn of_deployment(spec: &Value) -> Surrender {
    if spec["paused"] == true {
        return Surrender::Paused;
    }
    if spec["strategy"]["type"] == "Recreate" {
        return Surrender::ByItself;
    }
    let replicas = spec["replicas"].as_u64().unwrap_or(1);
    let rolling = &spec["strategy"]["rollingUpdate"];
    let of = |field: &str| {
        let text =
            rolling[field].as_str().map_or_else(|| (!rolling[field].is_u64()).then_some(QUARTER), Some);
        match text.and_then(|text| text.strip_suffix('%')) {
            Some(percent) => percent.parse::<u64>().unwrap_or(0).saturating_mul(replicas),
            None => rolling[field].as_u64().unwrap_or(0).saturating_mul(100),
        }
    };
    let (unavailable, surge) = (of("maxUnavailable") / 100, of("maxSurge").div_ceil(100));
    if unavailable == 0 && surge > 0 { Surrender::WhenLowered } else { Surrender::ByItself }
}

fn failure(status: &Value) -> Option<(String, String)> {
    let mut conditions = status["conditions"].as_array()?.iter();
    let found = conditions.find(|one| one["type"] == "ReplicaFailure" && one["status"] == "True")?;
    let text = |field: &str| found[field].as_str().unwrap_or_default();
    Some((plain(text("message")), plain(text("lastTransitionTime"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: &Value) -> DynamicObject {
        let mut whole = json!({"metadata": {"name": "bert", "annotations": {REVISION: "7"}}});
        json_patch::merge(&mut whole, value);
        serde_json::from_value(whole).unwrap()
    }

    fn deployment(spec: &Value) -> Surrender {
        Workload::of("apps/v1", "Deployment", &object(&json!({"spec": spec}))).surrender
    }

    #[test]
    fn a_deployment_that_may_miss_no_pod_gives_none_up() {
        let rolling = |replicas: u32, rolling: Value| {
            deployment(
                &json!({"replicas": replicas, "strategy": {"type": "RollingUpdate", "rollingUpdate": rolling}}),
            )
        };
        assert_eq!(rolling(6, json!({"maxSurge": 1, "maxUnavailable": 0})), Surrender::WhenLowered);
        assert_eq!(rolling(6, json!({"maxSurge": 0, "maxUnavailable": 1})), Surrender::ByItself);
        assert_eq!(rolling(6, json!({"maxSurge": "0%", "maxUnavailable": "0%"})), Surrender::ByItself);
        assert_eq!(rolling(9, json!({"maxSurge": "50%", "maxUnavailable": "10%"})), Surrender::WhenLowered);
        assert_eq!(rolling(10, json!({"maxSurge": "50%", "maxUnavailable": "10%"})), Surrender::ByItself);
        // A quarter each is the default.
        assert_eq!(deployment(&json!({"replicas": 3})), Surrender::WhenLowered);
        assert_eq!(deployment(&json!({"replicas": 4})), Surrender::ByItself);
        assert_eq!(
            deployment(&json!({"replicas": 3, "strategy": {"type": "Recreate"}})),
            Surrender::ByItself
        );
        assert_eq!(deployment(&json!({"replicas": 3, "paused": true})), Surrender::Paused);
    }

    #[test]
    fn the_newest_revision_is_named_as_its_kind_does() {
        let status = json!({"status": {"updateRevision": "bert-5d", "currentPodHash": "6c"}});
        let of = |api_version, kind| {
            let found = Workload::of(api_version, kind, &object(&status));
            (found.newest, found.surrender)
        };
        assert_eq!(of("apps/v1", "Deployment").0, Newest::ReplicaSet("7".to_owned()));
        let label = |name, value: &str| Newest::Label(name, value.to_owned());
        let set = (label("controller-revision-hash", "bert-5d"), Surrender::ByItself);
        assert_eq!(of("apps/v1", "StatefulSet"), set);
        let rollout = (label("rollouts-pod-template-hash", "6c"), Surrender::Unknown);
        assert_eq!(of("argoproj.io/v1alpha1", "Rollout"), rollout);
        assert_eq!(of("example.com/v1", "Deployment"), (Newest::Unknown, Surrender::Unknown));
    }

    #[test]
    fn pods_that_cannot_be_created_are_told_with_the_api_servers_words() {
        let status = json!({"status": {"conditions": [
            {"type": "Available", "status": "False", "message": "x"},
            {
                "type": "ReplicaFailure", "status": "True", "message": "exceeded\u{1b}[31m quota: a",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            },
        ]}});
        let found = Workload::of("apps/v1", "Deployment", &object(&status)).failure;
        assert_eq!(found, Some(("exceeded[31m quota: a".to_owned(), "2026-01-01T00:00:00Z".to_owned())));
    }
}
