//! Attributes pods to targets by the controllers above them, not by their labels, which other pods may have too (pure).

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::kinds::group;
use super::pods;
use crate::platform::ScaleTarget;

/// API groups whose kinds create their pods through known objects. A pod whose controllers do not lead to a target of
/// these groups is not the target's.
const FOLLOWED_GROUPS: [&str; 3] = ["apps", "argoproj.io", "leaderworkerset.x-k8s.io"];
/// Maximum owners that a message names.
const MAX_NAMED: usize = 3;

/// Controllers above a pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Chain {
    /// Controllers, the nearest first.
    pub owners: Vec<OwnerReference>,
    /// Reason why the chain ends.
    pub end: End,
}

/// Reason why a chain of controllers ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum End {
    /// The last object has no controller.
    #[default]
    Top,
    /// The last object does not exist any more, so the pod is about to be deleted.
    Gone,
    /// The controller of the last object is not known: its kind is not followed, or may not be read.
    Unknown,
}

/// Owner of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attribution {
    /// The target, which is among the controllers.
    Own,
    /// The target by the pod's labels, because its controllers are not known.
    ByLabels,
    /// No controller. It is a stranger where the target controls other pods; otherwise the target may be of a kind that
    /// sets no owners.
    Bare,
    /// Another controller, by kind and name.
    Other(String),
    /// An earlier object of the target's name, which is gone.
    Leaving,
}

/// Returns whether all objects between this kind and its pods are followed.
pub(super) fn is_followed(target: &ScaleTarget) -> bool {
    FOLLOWED_GROUPS.contains(&group(&target.api_version))
}

/// Returns whether an owner is the target; `uid` is the target's, `None` where it is not known.
pub(super) fn is_target(target: &ScaleTarget, uid: Option<&str>, owner: &OwnerReference) -> bool {
    uid.map_or_else(|| has_name_of(target, owner), |uid| owner.uid == uid)
}

fn has_name_of(target: &ScaleTarget, owner: &OwnerReference) -> bool {
    owner.kind == target.kind
        && owner.name == target.at.name
        && group(&owner.api_version) == group(&target.api_version)
}

/// Attributes a pod that the target's selector matches.
pub(super) fn attribute(target: &ScaleTarget, uid: Option<&str>, pod: &Pod, chain: &Chain) -> Attribution {
    if chain.owners.iter().any(|owner| is_target(target, uid, owner)) {
        return Attribution::Own;
    }
    if chain.owners.iter().any(|owner| has_name_of(target, owner)) {
        return Attribution::Leaving;
    }
    match (chain.end, chain.owners.last()) {
        // A pod that drains still counts requests.
        (End::Gone, _) if !pods::is_live(pod) => Attribution::ByLabels,
        // It is about to be deleted; until then the name of its controller identifies it.
        (End::Gone, Some(owner)) if is_made_by(target, owner) => Attribution::ByLabels,
        (End::Unknown, _) => Attribution::ByLabels,
        (End::Top, None) => Attribution::Bare,
        (_, Some(owner)) => Attribution::Other(format!("{} {}", owner.kind, owner.name)),
        (End::Gone, None) => Attribution::ByLabels,
    }
}

/// Returns whether an object's name is one that the target's controller gives: `bert-6d4f` of `bert`.
fn is_made_by(target: &ScaleTarget, owner: &OwnerReference) -> bool {
    owner.name.rsplit_once('-').is_some_and(|(stem, _)| stem == target.at.name)
}

/// Returns a sentence that names the other owners and says what to do; `None` where there are none.
pub(super) fn ambiguity(
    target: &ScaleTarget,
    mut others: Vec<String>,
    selected_by: Vec<String>,
) -> Option<String> {
    let named = |all: &mut Vec<String>| {
        all.sort();
        all.dedup();
        let more = all.len().saturating_sub(MAX_NAMED);
        all.truncate(MAX_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{more}", all.join(", "))
    };
    let mut selected_by = selected_by;
    let matches = (!others.is_empty())
        .then(|| format!("the selector of {target} also matches the pods of {}", named(&mut others)));
    let matched = (!selected_by.is_empty()).then(|| {
        format!("the pods of {target} are also matched by the selector of {}", named(&mut selected_by))
    });
    let found: Vec<String> = matches.into_iter().chain(matched).collect();
    (!found.is_empty()).then(|| {
        format!(
            "{}; give one of them a label of its own, in its selector and on its pods. Until then replicas are held \
             within minReplicas and maxReplicas",
            found.join(", and ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::Target;
    use serde_json::json;

    fn target(api_version: &str, kind: &str) -> ScaleTarget {
        ScaleTarget {
            at: Target { namespace: "ns".to_owned(), name: "bert".to_owned() },
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
        }
    }

    fn owner(kind: &str, name: &str, uid: &str) -> OwnerReference {
        let group = match kind {
            "Rollout" => "argoproj.io/v1alpha1",
            "Job" => "batch/v1",
            _ => "apps/v1",
        };
        OwnerReference {
            api_version: group.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            controller: Some(true),
            ..OwnerReference::default()
        }
    }

    fn pod(terminating: bool) -> Pod {
        let mut pod = json!({"metadata": {"name": "p"}});
        if terminating {
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        serde_json::from_value(pod).unwrap()
    }

    fn of(target: &ScaleTarget, owners: Vec<OwnerReference>, end: End) -> Attribution {
        attribute(target, Some("1"), &pod(false), &Chain { owners, end })
    }

    #[test]
    fn every_replica_set_of_a_deployment_is_its_own_and_anothers_is_not() {
        let bert = target("apps/v1", "Deployment");
        for set in ["bert-new", "bert-old"] {
            let owners = vec![owner("ReplicaSet", set, set), owner("Deployment", "bert", "1")];
            assert_eq!(of(&bert, owners, End::Top), Attribution::Own);
        }
        let canary = vec![owner("ReplicaSet", "c-1", "c-1"), owner("Deployment", "canary", "2")];
        assert_eq!(of(&bert, canary, End::Top), Attribution::Other("Deployment canary".to_owned()));
        let rollout = vec![owner("ReplicaSet", "r-1", "r-1"), owner("Rollout", "bert", "3")];
        assert_eq!(of(&bert, rollout, End::Top), Attribution::Other("Rollout bert".to_owned()));
        assert_eq!(
            of(&bert, vec![owner("Job", "load", "4")], End::Top),
            Attribution::Other("Job load".to_owned())
        );
        assert_eq!(of(&bert, vec![], End::Top), Attribution::Bare);
    }

    #[test]
    fn pods_whose_controllers_were_deleted_are_told_by_what_is_left() {
        let bert = target("apps/v1", "Deployment");
        let before = vec![owner("ReplicaSet", "bert-1", "x"), owner("Deployment", "bert", "0")];
        assert_eq!(of(&bert, before, End::Top), Attribution::Leaving);
        let orphan = |set: &str| Chain { owners: vec![owner("ReplicaSet", set, "x")], end: End::Gone };
        assert_eq!(attribute(&bert, Some("1"), &pod(false), &orphan("bert-1")), Attribution::ByLabels);
        let canary = attribute(&bert, Some("1"), &pod(false), &orphan("bert-canary-1"));
        assert_eq!(canary, Attribution::Other("ReplicaSet bert-canary-1".to_owned()));
        let draining = attribute(&bert, Some("1"), &pod(true), &orphan("bert-canary-1"));
        assert_eq!(draining, Attribution::ByLabels, "it still counts requests");
    }

    #[test]
    fn what_cannot_be_followed_is_decided_by_labels() {
        let bert = target("apps/v1", "Deployment");
        assert_eq!(of(&bert, vec![owner("ReplicaSet", "bert-1", "x")], End::Unknown), Attribution::ByLabels);
        let model = target("example.com/v1", "Model");
        assert_eq!(
            of(&model, vec![owner("Deployment", "canary", "2")], End::Top),
            Attribution::Other("Deployment canary".to_owned())
        );
    }

    #[test]
    fn a_message_names_a_few_of_many() {
        let bert = target("apps/v1", "Deployment");
        let many = (0..9).map(|index| format!("Job j{index}")).chain(["Job j0".to_owned()]).collect();
        let message = ambiguity(&bert, many, vec!["Deployment ns/canary".to_owned()]).unwrap();
        assert!(message.contains("Job j0, Job j1, Job j2 and 6 more"), "{message}");
        assert!(message.contains("matched by the selector of Deployment ns/canary"), "{message}");
        assert_eq!(ambiguity(&bert, vec![], vec![]), None);
    }
}
