//! Counts replicas that are groups of pods, a leader and its workers. A replica is ready when all of its pods are (pure).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

use super::pods;
use super::template::GROUPS_INDEX;

/// Numbers of groups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Groups {
    /// Groups whose pods all exist and are ready.
    pub ready: u32,
    /// Groups whose last pods are terminating.
    pub terminating: u32,
}

/// Counts the groups of these pods; each has `size` pods.
pub(super) fn count(members: &[&Pod], size: u32) -> Groups {
    /// Number of pods of one group: live, ready among these, terminating.
    #[derive(Default)]
    struct Group(u32, u32, u32);
    let mut groups: BTreeMap<&str, Group> = BTreeMap::new();
    for pod in members.iter().filter(|pod| !pods::is_over(pod)) {
        let Some(index) = pod.metadata.labels.as_ref().and_then(|labels| labels.get(GROUPS_INDEX)) else {
            continue;
        };
        let group = groups.entry(index).or_default();
        if pods::is_live(pod) {
            group.0 += 1;
            group.1 += u32::from(pods::is_ready(pod));
        } else {
            group.2 += 1;
        }
    }
    let number = |is: fn(&Group, u32) -> bool| {
        u32::try_from(groups.values().filter(|group| is(group, size)).count()).unwrap_or(u32::MAX)
    };
    Groups {
        ready: number(|Group(live, ready, _), size| ready == live && *live >= size.max(1)),
        terminating: number(|Group(live, _, terminating), _| *live == 0 && *terminating > 0),
    }
}

#[cfg(test)]
mod tests {
    use super::super::pods::tests::{NOT_READY, TERMINATING, parsed, pod};
    use super::*;
    use serde_json::json;

    fn member(group: u32, patch: &str) -> Pod {
        let mut change = json!({"metadata": {"labels": {GROUPS_INDEX: group.to_string()}}});
        json_patch::merge(&mut change, &parsed(patch));
        pod("p", change)
    }

    #[test]
    fn a_group_is_ready_when_all_of_its_pods_are() {
        let pods = [
            member(0, "{}"),
            member(0, "{}"),
            member(1, "{}"),
            member(1, NOT_READY),
            // Its worker does not exist yet.
            member(2, "{}"),
            member(3, TERMINATING),
            member(3, TERMINATING),
        ];
        let pods: Vec<&Pod> = pods.iter().collect();
        assert_eq!(count(&pods, 2), Groups { ready: 1, terminating: 1 });
        assert_eq!(count(&pods, 1), Groups { ready: 2, terminating: 1 }, "as far as the size is known");
        assert_eq!(count(&[], 2), Groups::default());
    }
}
