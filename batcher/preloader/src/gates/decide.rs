//! The decisions: pods in flight first, then by priority and age. No pod is lifted into a slice that is promised to
//! another.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use sluice_inventory::AllocationError;

use super::trial::AllocationTrial;
use super::{Action, Decision, Gated, PodRef, Reason, Snapshot, UNPLACEABLE_FOR, Wants, Why};

/// Returns one decision per gated pod, in the order in which they are served.
pub(crate) fn decide(view: &Snapshot) -> Vec<Decision> {
    let mut trial = AllocationTrial::new(&view.cluster);
    let mut in_flight: Vec<_> = view.in_flight.iter().collect();
    in_flight.sort_by_key(|one| rank(one.priority, one.created, &one.pod));
    for one in in_flight {
        // A pod that does not fit waits at the scheduler: it has no slice that could be promised twice.
        let _ = trial.place(&one.wants);
    }
    let mut gated: Vec<_> = view.gated.iter().collect();
    gated.sort_by_key(|one| rank(one.priority, one.created, &one.pod));
    let mut queue = Queue { trial, known_waits: BTreeMap::new(), ahead: Vec::new() };
    gated
        .into_iter()
        .map(|one| {
            let (action, message) = queue.serve(one);
            Decision { pod: one.pod.clone(), action, message }
        })
        .collect()
}

/// Decides by age alone, for the watchdog while no preloader leads: lifts gates `grace` after their deadline.
pub(crate) fn decide_by_age(view: &Snapshot, grace: Duration) -> Vec<Decision> {
    let overdue = view.gated.iter().filter(|gated| overdue(gated, grace));
    overdue
        .map(|gated| Decision {
            pod: gated.pod.clone(),
            action: Action::Lift(Why::Deadline),
            message: format!(
                "its deadline of {} s is over, and no preloader leads",
                gated.deadline.as_secs()
            ),
        })
        .collect()
}

/// Returns whether a gate is lifted for its age alone, `grace` after its deadline. Foreign gates stop that clock.
fn overdue(gated: &Gated, grace: Duration) -> bool {
    gated.foreign_gates.is_empty() && !gated.backs_off && gated.age >= gated.deadline.saturating_add(grace)
}

fn rank(priority: i32, created: Option<Timestamp>, pod: &PodRef) -> impl Ord {
    (Reverse(priority), created, pod.clone())
}

/// The gated pods, served one after another.
struct Queue<'a> {
    trial: AllocationTrial,
    /// Results that hold for every later pod with the same needs: slices only ever get fewer.
    known_waits: BTreeMap<String, Wait>,
    /// Pods that wait for a slice, one of each kind: no later pod may take the last place where one could be.
    ahead: Vec<&'a Gated>,
}

/// Why a pod waits, before its age is considered.
#[derive(Clone)]
struct Wait {
    reason: Reason,
    message: String,
}

impl<'a> Queue<'a> {
    fn serve(&mut self, gated: &'a Gated) -> (Action, String) {
        if !gated.foreign_gates.is_empty() {
            let message = format!("also held by {}", gated.foreign_gates.join(", "));
            return (Action::Wait(Reason::ForeignGate), message);
        }
        if gated.backs_off {
            let message = "the API server refused the last try; it is tried again soon".to_owned();
            return (Action::Wait(Reason::Refused), message);
        }
        match self.place(gated) {
            Ok((why, message)) => (Action::Lift(why), message),
            Err(Wait { reason: Reason::NeedsNode, message }) if gated.unplaceable_for >= UNPLACEABLE_FOR => {
                (Action::Lift(Why::NeedsNode), message)
            }
            Err(wait) if overdue(gated, Duration::ZERO) => {
                let message = format!(
                    "its deadline of {} s is over; it waited because {}",
                    gated.deadline.as_secs(),
                    wait.message
                );
                (Action::Lift(Why::Deadline), message)
            }
            Err(wait) => (Action::Wait(wait.reason), wait.message),
        }
    }

    fn place(&mut self, gated: &'a Gated) -> Result<(Why, String), Wait> {
        let wants = &gated.wants;
        if let Some(missing) = &wants.missing {
            return Err(Wait { reason: Reason::ClaimMissing, message: missing.clone() });
        }
        if wants.claims.is_empty() {
            return Ok((Why::NothingToClaim, "it claims nothing that is still to be allocated".to_owned()));
        }
        let key = key(&gated.pod.namespace, wants);
        if let Some(wait) = self.known_waits.get(&key) {
            return Err(wait.clone());
        }
        let before = self.trial.placed();
        let wait = match self.trial.place(wants) {
            Ok(()) => match self.delayed_pod() {
                None => return Ok((Why::SliceFree, "what it claims is free".to_owned())),
                Some(older) => {
                    self.trial.take_back(before);
                    // The pod's namespace reads this message: pods of other namespaces are not named to it.
                    let older = match older.namespace == gated.pod.namespace {
                        true => format!("{}/{}", older.namespace, older.name),
                        false => "a pod of another namespace".to_owned(),
                    };
                    let message =
                        format!("{older} is before it, and would have no place left where it could ever be");
                    Wait { reason: Reason::BehindOlder, message }
                }
            },
            Err(refusal) => match self.refused(gated, refusal) {
                Ok(why) => return Ok(why),
                Err(wait) => wait,
            },
        };
        self.known_waits.insert(key, wait.clone());
        Err(wait)
    }

    /// Lifts a pod whose claims cannot be counted; else distinguishes waiting for a slice from needing a node.
    fn refused(&mut self, gated: &'a Gated, refusal: AllocationError) -> Result<(Why, String), Wait> {
        let (reason, message) = match refusal {
            AllocationError::NoFit { reason } => match self.trial.could_ever_place(&gated.wants, false) {
                Ok(()) => {
                    self.ahead.push(gated);
                    (Reason::NoFreeSlice, reason)
                }
                Err(never) => (Reason::NeedsNode, format!("no node could ever take it: {never}")),
            },
            unknown @ AllocationError::UnknownClass { .. } => (Reason::NeedsNode, unknown.to_string()),
            other => return Ok((Why::NotCounted, other.to_string())),
        };
        Err(Wait { reason, message })
    }

    /// Returns the first of the waiting pods that could not be placed beside what was placed until now, even if all
    /// other slices became free.
    fn delayed_pod(&mut self) -> Option<&'a PodRef> {
        let ahead = self.ahead.clone();
        ahead
            .into_iter()
            .find(|one| self.trial.could_ever_place(&one.wants, true).is_err())
            .map(|one| &one.pod)
    }
}

/// Returns a key that is equal for pods of one namespace, which share a message, with the same needs and nodes.
fn key(namespace: &str, wants: &Wants) -> String {
    let claims: Vec<_> = wants.claims.iter().map(|claim| &claim.spec).collect();
    // Cannot fail; if it did, unequal pods would count as equal and wait for their deadline.
    let claims = serde_json::to_string(&claims).unwrap_or_default();
    // Pods of one specification share one set of nodes, which can be large.
    format!("{namespace} {claims} {:p}", Arc::as_ptr(&wants.closed_nodes))
}
