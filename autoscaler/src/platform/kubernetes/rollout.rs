//! Detects whether a target's pods are being replaced, and which of them waits for a slice (pure).

use k8s_openapi::api::core::v1::Pod;
use sluice_scaling_policy::{Cause, Rollout, Surrender, Waiting};

use super::pods;
use super::standing::{is_ours, obstacle};

/// Returns the pods that need a slice and have no node yet.
pub(super) fn without_node<'a>(pods: &[&'a Pod]) -> Vec<&'a Pod> {
    // A ready pod has a node even where the condition is missing.
    let has_node = |pod: &Pod| pods::is_ready(pod) || pods::condition(pod, "PodScheduled").is_some();
    let waits = |pod: &&&Pod| pods::is_live(pod) && !has_node(pod);
    pods.iter().filter(waits).copied().filter(|pod| pods::gates(pod).all(is_ours)).collect()
}

/// Returns the rollout in progress; `None` where all pods are of one revision. `is_newest` returns whether a pod is of the newest
/// revision.
pub(super) fn rollout(
    asked: u32,
    pods: &[&Pod],
    revision: &str,
    surrender: Surrender,
    now_ms: u64,
    is_newest: impl Fn(&Pod) -> bool,
) -> Option<Rollout> {
    let (live, gone): (Vec<&Pod>, Vec<&Pod>) = pods.iter().copied().partition(|pod| pods::is_live(pod));
    let (new, old): (Vec<&Pod>, Vec<&Pod>) = live.iter().copied().partition(|pod| is_newest(pod));
    if old.is_empty() || new.is_empty() {
        return None;
    }
    let count = |pods: usize| u32::try_from(pods).unwrap_or(u32::MAX);
    let made_ms =
        |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map_or(now_ms, |at| pods::millis(at.0));
    let waiting = without_node(&new).into_iter().min_by_key(|pod| (made_ms(pod), pods::name(pod)));
    let fails = |pod: &&Pod| {
        let cause = obstacle(pod, now_ms).cause;
        cause.is_failure() && cause != Cause::Unschedulable
    };
    let surges = surrender == Surrender::WhenLowered && count(live.len()) <= asked;
    Some(Rollout {
        revision: revision.to_owned(),
        old: count(old.iter().filter(|pod| pods::condition(pod, "PodScheduled").is_some()).count()),
        leaving: count(gone.iter().filter(|pod| !pods::is_over(pod)).count()),
        waiting: waiting.map(|pod| Waiting { pod: pods::name(pod).to_owned(), since_ms: made_ms(pod) }),
        is_failing: new.iter().filter(|pod| !pods::is_ready(pod)).any(fails),
        surrender,
        reserve: u32::from(surges),
    })
}

#[cfg(test)]
mod tests {
    use super::super::standing::tests::{NOW_MS, container, pod, unscheduled};
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_rollout_is_on_while_pods_of_two_revisions_are_there() {
        let new = |name, mut patch: Value| {
            patch["metadata"]["labels"]["rev"] = json!("2");
            pod(name, &patch)
        };
        let gone = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:09Z"}});
        let roll = |pods: &[Pod], asked| {
            let pods: Vec<&Pod> = pods.iter().collect();
            let newest = |pod: &Pod| pod.metadata.labels.as_ref().unwrap()["rev"] == "2";
            rollout(asked, &pods, "2", Surrender::WhenLowered, NOW_MS, newest)
        };
        let old = || pod("old", &json!({}));
        assert_eq!(roll(&[old()], 1), None);
        assert_eq!(roll(&[new("new", json!({})), pod("gone", &gone)], 1), None);
        let waits = roll(&[old(), new("new", unscheduled("SchedulingGated", ""))], 1).unwrap();
        let waiting = Waiting { pod: "new".to_owned(), since_ms: NOW_MS - 60_000 };
        assert_eq!((waits.waiting, waits.old, waits.leaving, waits.reserve), (Some(waiting), 1, 0, 0));
        let next = roll(&[old(), new("new", json!({})), pod("gone", &gone)], 2).unwrap();
        assert_eq!((next.waiting, next.old, next.leaving, next.reserve), (None, 1, 1, 1));
        let crash = container(&json!({"state": {"waiting": {"reason": "CrashLoopBackOff"}}}));
        assert!(roll(&[old(), new("new", crash)], 1).unwrap().is_failing);
    }
}
