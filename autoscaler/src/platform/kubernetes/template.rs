//! Reads from a target's object which pods make up one of its replicas (pure).

use anyhow::anyhow;
use k8s_openapi::api::core::v1::PodSpec;
use serde_json::Value;

use super::kinds;

/// Field in which nearly all kinds with pods have the template of their pods.
pub(super) const USUAL: &str = "spec.template.spec";
/// Label of ClusterRoles whose rules become the autoscaler's (config/rbac/autoscaler.yaml).
pub(super) const READABLE_LABEL: &str = "sluice.dev/aggregate-to-autoscaler";
/// Kind and API group whose replicas are groups of pods: a leader and its workers.
const GROUPS: (&str, &str) = ("LeaderWorkerSet", "leaderworkerset.x-k8s.io");
/// Label of all pods of such a target; its value is the target's name.
pub(super) const GROUPS_NAME: &str = "leaderworkerset.sigs.k8s.io/name";
/// Label of all pods of such a target; its value is the index of the pod's replica.
pub(super) const GROUPS_INDEX: &str = "leaderworkerset.sigs.k8s.io/group-index";

/// The pods of one replica.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ReplicaPods {
    /// Specification of the pods that claim a device; that of the leader where no pod of a group does.
    pub spec: PodSpec,
    /// Number of pods that claim a device; 1 where no pod does.
    pub claiming: u32,
    /// Number of pods.
    pub size: u32,
}

impl ReplicaPods {
    /// Creates a replica of one pod.
    pub(super) fn one(spec: PodSpec) -> Self {
        Self { spec, claiming: 1, size: 1 }
    }
}

/// Pod template of a target.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Template {
    /// The object has the template.
    Pods(Box<ReplicaPods>),
    /// Another object has it: API version, kind and name.
    Elsewhere(String, String, String),
    /// The object has no template in a known place.
    Absent,
    /// The object may not be read (HTTP 403).
    Forbidden,
}

/// Returns whether each replica of this kind is a group of pods.
pub(super) fn has_groups(api_version: &str, kind: &str) -> bool {
    (kind, kinds::group(api_version)) == GROUPS
}

/// Reads an object's template.
///
/// # Errors
/// Names the field that cannot be read, or cannot be counted.
pub(super) fn read(api_version: &str, kind: &str, object: &Value) -> anyhow::Result<Template> {
    if has_groups(api_version, kind) {
        return group(object);
    }
    if let Some(spec) = pod_spec(object, "/spec/template/spec", USUAL)? {
        return Ok(Template::Pods(Box::new(ReplicaPods::one(spec))));
    }
    // An Argo Rollout may take the template of a Deployment.
    let text =
        |field: &str| object.pointer(&format!("/spec/workloadRef/{field}"))?.as_str().map(str::to_owned);
    match (text("apiVersion"), text("kind"), text("name")) {
        (Some(api_version), Some(kind), Some(name)) => Ok(Template::Elsewhere(api_version, kind, name)),
        _ => Ok(Template::Absent),
    }
}

/// Reads the template of a group: a leader and `size - 1` workers. Without a template of its own the leader is like the
/// workers.
fn group(object: &Value) -> anyhow::Result<Template> {
    const AT: &str = "spec.leaderWorkerTemplate";
    let part = |part: &str| {
        let path = format!("/spec/leaderWorkerTemplate/{part}/spec");
        pod_spec(object, &path, &format!("{AT}.{part}.spec"))
    };
    let Some(worker) = part("workerTemplate")? else { return Ok(Template::Absent) };
    let leader = part("leaderTemplate")?.unwrap_or_else(|| worker.clone());
    let size = object.pointer("/spec/leaderWorkerTemplate/size").and_then(Value::as_u64).unwrap_or(1);
    let size = u32::try_from(size).unwrap_or(u32::MAX).max(1);
    let claims = |spec: &PodSpec| !spec.resource_claims.as_deref().unwrap_or_default().is_empty();
    let (spec, claiming) = match (claims(&leader), claims(&worker) && size > 1) {
        (true, true) if leader.resource_claims != worker.resource_claims => {
            return Err(anyhow!(
                "{AT}: its leader and its workers have different resourceClaims, which cannot be counted; give both \
                 the same"
            ));
        }
        (true, true) => (leader, size),
        (false, true) => (worker, size - 1),
        (_, false) => (leader, 1),
    };
    Ok(Template::Pods(Box::new(ReplicaPods { spec, claiming, size })))
}

fn pod_spec(object: &Value, pointer: &str, field: &str) -> anyhow::Result<Option<PodSpec>> {
    let Some(spec) = object.pointer(pointer).filter(|spec| !spec.is_null()) else { return Ok(None) };
    let spec = serde_json::from_value(spec.clone());
    spec.map(Some).map_err(|error| anyhow!("{field} is not that of a pod: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const LWS: (&str, &str) = ("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet");

    fn read(api_version: &str, kind: &str, object: &Value) -> Result<Template, String> {
        super::read(api_version, kind, object).map_err(|error| error.to_string())
    }

    fn pod(claims: &[&str]) -> Value {
        let claims: Vec<Value> =
            claims.iter().map(|name| json!({"name": name, "resourceClaimTemplateName": name})).collect();
        json!({"spec": {"containers": [], "resourceClaims": claims}})
    }

    fn group_of(size: u32, leader: Option<Value>, worker: &Value) -> Result<(u32, u32), String> {
        let mut template = json!({"size": size, "workerTemplate": worker});
        if let Some(leader) = leader {
            template["leaderTemplate"] = leader;
        }
        match read(LWS.0, LWS.1, &json!({"spec": {"leaderWorkerTemplate": template}}))? {
            Template::Pods(pods) => Ok((pods.size, pods.claiming)),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn a_replica_of_a_group_claims_as_often_as_its_pods_do() {
        assert_eq!(group_of(4, None, &pod(&["gpu"])), Ok((4, 4)));
        assert_eq!(group_of(4, Some(pod(&[])), &pod(&["gpu"])), Ok((4, 3)));
        assert_eq!(group_of(4, Some(pod(&["gpu"])), &pod(&[])), Ok((4, 1)));
        assert_eq!(group_of(1, None, &pod(&["gpu"])), Ok((1, 1)));
        assert_eq!(group_of(4, None, &pod(&[])), Ok((4, 1)), "no claim: the number does not matter");
        assert!(group_of(2, Some(pod(&["large"])), &pod(&["gpu"])).unwrap_err().contains("different"));
    }

    #[test]
    fn what_the_object_does_not_say_is_absent_and_what_it_says_wrongly_is_named() {
        assert_eq!(read("example.com/v1", "Model", &json!({"spec": {}})), Ok(Template::Absent));
        assert_eq!(read(LWS.0, LWS.1, &json!({"spec": {}})), Ok(Template::Absent));
        let elsewhere =
            json!({"spec": {"workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"}}});
        let found = read("argoproj.io/v1alpha1", "Rollout", &elsewhere);
        assert_eq!(found, Ok(Template::Elsewhere("apps/v1".into(), "Deployment".into(), "a".into())));
        let wrong = read("apps/v1", "Deployment", &json!({"spec": {"template": {"spec": 3}}})).unwrap_err();
        assert!(wrong.contains("spec.template.spec"), "{wrong}");
    }
}
