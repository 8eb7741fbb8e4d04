//! What is remembered about gated pods between two rounds: only what their objects do not tell yet. Time comes in
//! from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use crate::gates::{
    Action, ClaimIndex, Decision, Gated, InFlight, Look, Reason, Snapshot, Stage, UNPLACEABLE_FOR,
};

/// Pauses after lifts that were refused: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// A lift of which no answer came is taken for done that long; then the pod is asked again.
const UNKNOWN_FOR: Duration = Duration::from_secs(2);
/// After this no answer comes any more.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);
/// A wait that is shorter is not worth an event.
pub(super) const TELL_AFTER: Duration = Duration::from_secs(1);

/// One entry per gated pod, by UID.
#[derive(Debug, Default)]
pub(super) struct PodTracker {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    first_seen: Instant,
    /// As of the last view a gate of somebody else holds it, too.
    is_shared: bool,
    /// When the last one of these was gone.
    shared_until: Option<Instant>,
    lift: Lift,
    refusals: u32,
    unplaceable_since: Option<Instant>,
    told: BTreeSet<Reason>,
    /// When it is overdue, as of the last view.
    due: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Lift {
    None,
    /// It is done; the mirror of pods does not show it yet.
    Done,
    /// Perhaps it is done: taken for it until then.
    Unknown(Instant),
    /// No other try before then.
    Refused(Instant),
}

impl PodTracker {
    /// What decisions depend on, as of `now`; `wall` is the same moment by the clock on the wall.
    /// `closed_nodes` are those of each pod's specification.
    pub(super) fn view(
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
            // Until it is seen without them, which may be long after the view before.
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

    /// Takes note of the decisions; the result are waits to be told, each once per pod and reason.
    pub(super) fn decided<'v>(&mut self, decisions: &'v [Decision], now: Instant) -> Vec<&'v Decision> {
        let mut to_tell = Vec::new();
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
                    // Refusals are told when they happen.
                    let is_worth_it = reason != Reason::Refused && now - entry.first_seen >= TELL_AFTER;
                    if is_worth_it && entry.told.insert(reason) {
                        to_tell.push(decision);
                    }
                }
            }
        }
        to_tell
    }

    /// This one was lifted.
    pub(super) fn lifted(&mut self, uid: &str) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.lift = Lift::Done;
        }
    }

    /// The API server refused to lift this one.
    pub(super) fn refused(&mut self, uid: &str, now: Instant) {
        if let Some(entry) = self.entries.get_mut(uid) {
            let pause = PAUSES.0.saturating_mul(1 << entry.refusals.min(10)).min(PAUSES.1);
            entry.refusals += 1;
            entry.lift = Lift::Refused(now + pause);
        }
    }

    /// Nobody knows whether this one was lifted.
    pub(super) fn unknown(&mut self, uid: &str, now: Instant) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.lift = Lift::Unknown(now + UNKNOWN_FOR);
        }
    }

    /// When time alone changes a decision next, deadlines later by `grace`.
    pub(super) fn next(&self, now: Instant, grace: Duration) -> Option<Instant> {
        let times = self.entries.values().flat_map(|entry| {
            let waits = matches!(entry.lift, Lift::None | Lift::Refused(_));
            [
                waits.then_some(entry.due + grace),
                (waits && entry.told.is_empty()).then_some(entry.first_seen + TELL_AFTER),
                entry.unplaceable_since.map(|since| since + UNPLACEABLE_FOR),
                match entry.lift {
                    Lift::Unknown(until) | Lift::Refused(until) => Some(until),
                    Lift::None | Lift::Done => None,
                },
            ]
        });
        times.flatten().filter(|at| *at > now).min()
    }

    /// Drops pods that are gone, or show no gate of ours any more.
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
            refusals: 0,
            unplaceable_since: None,
            told: BTreeSet::new(),
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

    /// A gate of somebody else holds the clock. A wall clock that is behind must not make a pod wait longer than
    /// this process has seen it.
    fn age(&self, by_the_wall: Duration, now: Instant) -> Duration {
        match self.shared_until {
            Some(until) => now - until,
            None => by_the_wall.max(now - self.first_seen),
        }
    }
}
