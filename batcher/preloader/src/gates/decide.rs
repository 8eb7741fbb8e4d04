//! The decisions: in flight first, then by priority and age; nobody is lifted into a slice that is promised.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use sluice_inventory::AllocationError;

use super::trial::AllocationTrial;
use super::{Action, Decision, Gated, PodRef, Reason, Snapshot, UNPLACEABLE_FOR, Wants, Why};

/// One decision per gated pod, in the order in which they are served.
pub(crate) fn decide(view: &Snapshot) -> Vec<Decision> {
    let mut trial = AllocationTrial::new(&view.cluster);
    let mut in_flight: Vec<_> = view.in_flight.iter().collect();
    in_flight.sort_by_key(|one| rank(one.priority, one.created, &one.pod));
    for one in in_flight {
        // What does not fit waits at the scheduler: it has no slice that could be promised twice.
        let _ = trial.place(&one.wants);
    }
    let mut gated: Vec<_> = view.gated.iter().collect();
    gated.sort_by_key(|one| rank(one.priority, one.created, &one.pod));
    let mut queue = Queue { trial, answers: BTreeMap::new(), ahead: Vec::new() };
    gated
        .into_iter()
        .map(|one| {
            let (action, message) = queue.serve(one);
            Decision { pod: one.pod.clone(), action, message }
        })
        .collect()
}

/// Lifts by age alone, for whoever stands in while nobody decides; `grace` after each deadline.
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

/// Whether a gate is lifted for its age alone; `grace` is for whoever else should do it. Gates of others stop
/// that clock.
fn overdue(gated: &Gated, grace: Duration) -> bool {
    gated.foreign_gates.is_empty() && !gated.backs_off && gated.age >= gated.deadline.saturating_add(grace)
}

fn rank(priority: i32, created: Option<Timestamp>, pod: &PodRef) -> impl Ord {
    (Reverse(priority), created, pod.clone())
}

/// The gated pods, served one after another.
struct Queue<'a> {
    trial: AllocationTrial,
    /// Answers that hold for every later pod that wants the same: slices only ever get fewer.
    answers: BTreeMap<String, Wait>,
    /// Who waits for a slice, one of each kind: nobody may take the last place where it could be.
    ahead: Vec<&'a Gated>,
}

/// Why somebody waits, before its age is looked at.
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
        if let Some(wait) = self.answers.get(&key) {
            return Err(wait.clone());
        }
        let before = self.trial.placed();
        let wait = match self.trial.place(wants) {
            Ok(()) => match self.whom_it_delays() {
                None => return Ok((Why::SliceFree, "what it claims is free".to_owned())),
                Some(older) => {
                    self.trial.take_back(before);
                    // Its namespace is told this; who is of another one is none of its affair.
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
        self.answers.insert(key, wait.clone());
        Err(wait)
    }

    /// Lifts what cannot be counted, and tells those who must wait for a slice from those who need a node.
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

    /// The first of those ahead who, with what was placed until now, could not be placed any more, whatever
    /// else came back.
    fn whom_it_delays(&mut self) -> Option<&'a PodRef> {
        let ahead = self.ahead.clone();
        ahead
            .into_iter()
            .find(|one| self.trial.could_ever_place(&one.wants, true).is_err())
            .map(|one| &one.pod)
    }
}

/// Equal for pods of one namespace, to which the answer's words are told, that want the same of the same nodes.
fn key(namespace: &str, wants: &Wants) -> String {
    let claims: Vec<_> = wants.claims.iter().map(|claim| &claim.spec).collect();
    // Neither can fail; if one did, pods would be taken for alike that are not, and wait for their deadline.
    let claims = serde_json::to_string(&claims).unwrap_or_default();
    // Pods of one specification share one set of nodes, which can be large.
    format!("{namespace} {claims} {:p}", Arc::as_ptr(&wants.closed_nodes))
}
