//! State of gated pods between two rounds: only what their objects do not show yet. The caller supplies the time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use sluice_process::backoff::{Backoff, jitter};
use tokio::time::Instant;

use crate::gates::{
    Action, ClaimIndex, Decision, Gated, InFlight, Look, Reason, Snapshot, Stage, UNPLACEABLE_FOR,
};

/// First and longest pause after a refused lift.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How long a lift without a response counts as done before it is tried again.
const UNKNOWN_FOR: Duration = Duration::from_secs(2);
/// Longest time after which a response to a patch may still come.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);
/// Shortest wait that is worth an event.
pub(super) const EVENT_AFTER: Duration = Duration::from_secs(1);

/// Gated pods by UID, with what this process knows of each beyond its object.
#[derive(Debug, Default)]
pub(super) struct PodTracker {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    first_seen: Instant,
    /// Whether a foreign gate held the pod too, as of the last snapshot.
    is_shared: bool,
    /// When the last foreign gate was gone; `None` if there was none.
    shared_until: Option<Instant>,
    lift: Lift,
    /// Pauses after refused lifts.
    pauses: Backoff,
    unplaceable_since: Option<Instant>,
    published: BTreeSet<Reason>,
    /// When the pod's deadline ends, as of the last snapshot.
    due: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Lift {
    None,
    /// The gate was removed; the mirror of pods does not show it yet.
    Done,
    /// The gate may have been removed; counts as removed until then.
    Unknown(Instant),
    /// The lift was refused; no other attempt before then.
    Refused(Instant),
}

impl PodTracker {
    /// Returns the facts that decisions depend on, as of `now`; `wall` is the same moment by the wall clock.
    /// `closed_nodes` returns the nodes that a pod's specification excludes.
    pub(super) fn snapshot(
        &mut self,
        pods: &[Arc<Pod>],
        cluster: sluice_inventory::Cluster,
        closed_nodes: impl Fn(&Pod) -> Arc<BTreeSet<String>>,
        default_deadline: Duration,
        (now, wall): (Instant, Timestamp),
    ) -> Snapshot {
        self.keep_only(pods);
        let claims = ClaimIndex::new(&cluster.claims);
        let (mut gated, mut in_flight) = (Vec::new(), Vec::new());
        for pod in pods {
            let uid = pod.metadata.uid.as_deref().unwrap_or_default();
            let is_lifted = self.entries.get(uid).is_some_and(|entry| entry.is_lifted(now));
            let look = Look::of(pod, is_lifted);
            if look.stage == Stage::NoConcern {
                continue;
            }
            let mut wants = claims.wants(pod);
            if !wants.claims.is_empty() {
                wants.closed_nodes = closed_nodes(pod);
            }
            let wall_age = look.age(wall);
            let Look { pod: this, stage, priority, created, foreign_gates, .. } = look;
            if stage == Stage::InFlight {
                if !wants.claims.is_empty() {
                    in_flight.push(InFlight { pod: this, priority, created, wants });
                }
                continue;
            }
            let deadline = look.deadline.unwrap_or(default_deadline);
            let entry = self.entries.entry(this.uid.clone()).or_insert_with(|| Entry::new(now));
            // Counts until the pod is seen without them, which may be long after the previous snapshot.
            if entry.is_shared || !foreign_gates.is_empty() {
                entry.shared_until = Some(now);
            }
            entry.is_shared = !foreign_gates.is_empty();
            let age = entry.age(wall_age, now);
            entry.due = now + deadline.saturating_sub(age).min(Duration::from_secs(86_400));
            gated.push(Gated {
                pod: this,
                priority,
                created,
                wants,
                foreign_gates,
                age,
                deadline,
                unplaceable_for: entry.unplaceable_since.map_or(Duration::ZERO, |since| now - since),
                backs_off: matches!(entry.lift, Lift::Refused(until) if now < until),
            });
        }
        Snapshot { cluster, gated, in_flight }
    }

    /// Records the decisions. Returns the waits to publish an event for, each once per pod and reason.
    pub(super) fn decided<'v>(&mut self, decisions: &'v [Decision], now: Instant) -> Vec<&'v Decision> {
        let mut to_publish = Vec::new();
        for decision in decisions {
            let Some(entry) = self.entries.get_mut(&decision.pod.uid) else { continue };
            match decision.action {
                Action::Lift(_) => entry.lift = Lift::Unknown(now + ANSWERED_WITHIN),
                Action::Wait(reason) => {
                    if reason == Reason::NeedsNode {
                        entry.unplaceable_since.get_or_insert(now);
                    } else {
                        entry.unplaceable_since = None;
                    }
                    // Refusals are published when they happen.
                    let is_worth_it = reason != Reason::Refused && now - entry.first_seen >= EVENT_AFTER;
                    if is_worth_it && entry.published.insert(reason) {
                        to_publish.push(decision);
                    }
                }
            }
        }
        to_publish
    }

    /// Records that the pod's gate was removed.
    pub(super) fn lifted(&mut self, uid: &str) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.lift = Lift::Done;
        }
    }

    /// Records that the API server refused to remove the gate, and schedules the next attempt.
    pub(super) fn refused(&mut self, uid: &str, now: Instant) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.lift = Lift::Refused(now + entry.pauses.pause(jitter()));
        }
    }

    /// Records that it is unknown whether the gate was removed.
    pub(super) fn unknown(&mut self, uid: &str, now: Instant) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.lift = Lift::Unknown(now + UNKNOWN_FOR);
        }
    }

    /// Returns when the passing of time alone changes a decision next, with deadlines later by `grace`; `None` if never.
    pub(super) fn next(&self, now: Instant, grace: Duration) -> Option<Instant> {
        let times = self.entries.values().flat_map(|entry| {
            let waits = matches!(entry.lift, Lift::None | Lift::Refused(_));
            [
                waits.then_some(entry.due + grace),
                (waits && entry.published.is_empty()).then_some(entry.first_seen + EVENT_AFTER),
                entry.unplaceable_since.map(|since| since + UNPLACEABLE_FOR),
                match entry.lift {
                    Lift::Unknown(until) | Lift::Refused(until) => Some(until),
                    Lift::None | Lift::Done => None,
                },
            ]
        });
        times.flatten().filter(|at| *at > now).min()
    }

    /// Forgets pods that are gone or show no gate of ours any more.
    fn keep_only(&mut self, pods: &[Arc<Pod>]) {
        if self.entries.is_empty() {
            return;
        }
        let gated = pods.iter().filter(|pod| Look::of(pod, false).stage == Stage::Gated);
        let gated: BTreeSet<&str> = gated.filter_map(|pod| pod.metadata.uid.as_deref()).collect();
        self.entries.retain(|uid, _| gated.contains(uid.as_str()));
    }
}

impl Entry {
    fn new(now: Instant) -> Self {
        Self {
            first_seen: now,
            is_shared: false,
            shared_until: None,
            lift: Lift::None,
            pauses: Backoff::new(PAUSES.0, PAUSES.1),
            unplaceable_since: None,
            published: BTreeSet::new(),
            due: now,
        }
    }

    fn is_lifted(&self, now: Instant) -> bool {
        match self.lift {
            Lift::Done => true,
            Lift::Unknown(until) => now < until,
            Lift::None | Lift::Refused(_) => false,
        }
    }

    /// Returns how long the pod has waited for its gate alone: a foreign gate stops that clock. A wall clock that is behind
    /// must not make a pod wait longer than this process has seen it.
    fn age(&self, by_the_wall: Duration, now: Instant) -> Duration {
        match self.shared_until {
            Some(until) => now - until,
            None => by_the_wall.max(now - self.first_seen),
        }
    }
}
