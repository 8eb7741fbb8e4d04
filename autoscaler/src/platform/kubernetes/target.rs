//! State of a target that is kept between two questions, and which pods are its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::core::{Expression, Selector, SelectorExt};
use tokio::time::Instant;

use super::pods;
use super::startup::Startup;
use super::template::{self, ReplicaPods};
use super::workload::Workload;
use crate::platform::ScaleTarget;

/// State of a target that is kept between two questions.
pub(super) struct TargetState {
    /// Replicas that the target's scale asks for.
    pub(super) asked: u32,
    pub(super) selector: Selector,
    /// DeviceClass that a replica claims; `None` where it claims none, or before that is known.
    pub(super) device_class: Option<String>,
    pub(super) startup: Startup,
    /// UIDs of pods that the selector matches and that are not the target's.
    pub(super) foreign: Vec<String>,
    /// Pods of a replica, with the version of the target that they were read from.
    pub(super) template: Option<(String, ReplicaPods)>,
    /// Facts that the target stated about its pods then.
    pub(super) workload: Workload,
    /// Revisions of its ReplicaSets, as of that version.
    pub(super) revisions: BTreeMap<String, String>,
    /// Time of the newest question.
    pub(super) at: Instant,
}

impl TargetState {
    /// Returns the pods that the selector matches and that belong to the target.
    pub(super) fn own<'a>(&self, target: &ScaleTarget, pods: &'a [Arc<Pod>]) -> Vec<&'a Pod> {
        let mut own = of_target(target, &self.selector, pods);
        own.retain(|pod| !is_among(pod, &self.foreign));
        own
    }

    /// Returns the number of the target's pods that have or will have a device.
    pub(super) fn pods_with_device(&self, target: &ScaleTarget, pods: &[Arc<Pod>]) -> u32 {
        let claims = |pod: &Pod| {
            let claims = pod.spec.as_ref().and_then(|spec| spec.resource_claims.as_ref());
            claims.is_some_and(|claims| !claims.is_empty())
        };
        let has_groups = template::has_groups(&target.api_version, &target.kind);
        let selector = if has_groups { &members(target) } else { &self.selector };
        let all = of_target(target, selector, pods).into_iter();
        let counted = all.filter(|pod| {
            pods::is_live(pod) && !is_among(pod, &self.foreign) && (!has_groups || claims(pod))
        });
        u32::try_from(counted.count()).unwrap_or(u32::MAX)
    }
}

/// Returns the pods of the target's namespace that a selector matches.
pub(super) fn of_target<'a>(target: &ScaleTarget, selector: &Selector, pods: &'a [Arc<Pod>]) -> Vec<&'a Pod> {
    let none = BTreeMap::new();
    pods.iter()
        .map(AsRef::as_ref)
        .filter(|pod| {
            pod.metadata.namespace.as_ref() == Some(&target.at.namespace)
                && selector.matches(pod.metadata.labels.as_ref().unwrap_or(&none))
        })
        .collect()
}

/// Returns the selector of all pods of a target whose replicas are groups; its scale's selector may match only their
/// leaders.
pub(super) fn members(target: &ScaleTarget) -> Selector {
    [Expression::Equal(template::GROUPS_NAME.to_owned(), target.at.name.clone())].into_iter().collect()
}

fn is_among(pod: &Pod, uids: &[String]) -> bool {
    pod.metadata.uid.as_ref().is_some_and(|uid| uids.contains(uid))
}

/// Returns the other targets whose selectors match these pods.
pub(super) fn selecting(
    all: &BTreeMap<ScaleTarget, TargetState>,
    target: &ScaleTarget,
    own: &[&Pod],
) -> Vec<String> {
    let others =
        all.iter().filter(|(other, _)| *other != target && other.at.namespace == target.at.namespace);
    others
        .filter(|(_, known)| {
            own.iter().any(|pod| {
                pods::is_live(pod)
                    && pod.metadata.labels.as_ref().is_some_and(|labels| known.selector.matches(labels))
            })
        })
        .map(|(other, _)| format!("{} {}", other.kind, other.at.name))
        .collect()
}
