//! The loop: wait for a change, read, decide, lift. Responses to patches are awaited beside the next round.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use json_patch::Patch;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use sluice_inventory::Cluster;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::events::GateEvent;
use super::metrics;
use super::tracker::PodTracker;
use crate::gates::{self, Action, Decision, Look, PodRef, Snapshot, Why};

/// Time that a new leader only watches, so that the last lifts of its predecessor reach its mirrors.
pub(super) const SETTLE: Duration = Duration::from_secs(1);

/// Rule by which gates are lifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// By free slices and everything else that [`gates::decide`] knows.
    Capacity,
    /// By age alone.
    Age {
        /// Time after the deadline that is left to the process that decides by capacity.
        grace: Duration,
    },
}

/// Reads the cluster, as far as this process has seen it.
pub(super) trait ClusterView: Send {
    /// Returns pods and the inventory; `None` before both were listed.
    fn see(&mut self) -> Option<(Vec<Arc<Pod>>, Cluster)>;
    /// Returns the nodes that the pod's specification excludes.
    fn closed_nodes(&self, pod: &Pod) -> Arc<BTreeSet<String>>;
    /// Resolves when something has changed since the last [`see`](Self::see).
    fn changed(&mut self) -> impl Future<Output = ()> + Send;
}

/// Writes to the cluster.
pub(super) trait PodPatcher: Clone + Send + Sync + 'static {
    /// Applies the patch to the pod, and returns the outcome.
    fn lift(&self, pod: PodRef, patch: Patch) -> impl Future<Output = PatchOutcome> + Send;
    /// Publishes an event about the pod, unless too many are waiting.
    fn publish(&self, pod: &PodRef, event: GateEvent);
}

/// Outcome of a patch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PatchOutcome {
    /// The gate was removed.
    Lifted,
    /// The pod does not exist any more.
    Gone,
    /// The API server refused, for this reason.
    Refused(String),
    /// It is unknown whether the gate was removed, for this reason.
    Unknown(String),
    /// Nothing was sent: this process may not act any more.
    NotSent,
}

/// A patch whose outcome is known.
struct Sent {
    pod: PodRef,
    why: Why,
    message: String,
    /// Time from the change that made the lift possible to the response.
    took: Duration,
    answer: PatchOutcome,
}

/// Lifts gates by one rule; owns the tracker of pods.
pub(super) struct Lifter<S, H> {
    deadline: Duration,
    rule: Rule,
    cluster_view: S,
    patcher: H,
    tracker: PodTracker,
    sent: JoinSet<Sent>,
}

impl<S: ClusterView, H: PodPatcher> Lifter<S, H> {
    pub(super) fn new(deadline: Duration, rule: Rule, cluster_view: S, patcher: H) -> Self {
        Self { deadline, rule, cluster_view, patcher, tracker: PodTracker::default(), sent: JoinSet::new() }
    }

    /// Lifts gates while `acts` is true; returns when the sender of `acts` is dropped.
    pub(super) async fn run(mut self, mut acts: watch::Receiver<bool>) {
        metrics::start();
        while acts.wait_for(|acts| *acts).await.is_ok() {
            self.tracker = PodTracker::default();
            sleep(SETTLE).await;
            self.act(&mut acts).await;
            metrics::waiting(&[]);
        }
    }

    async fn act(&mut self, acts: &mut watch::Receiver<bool>) {
        let mut since = Instant::now();
        while *acts.borrow_and_update() {
            self.round(since).await;
            if !self.wait(acts).await {
                return;
            }
            since = Instant::now();
        }
    }

    /// Waits until a decision may change; returns false when the sender of `acts` is dropped.
    async fn wait(&mut self, acts: &mut watch::Receiver<bool>) -> bool {
        let grace = match self.rule {
            Rule::Capacity => Duration::ZERO,
            Rule::Age { grace } => grace,
        };
        loop {
            let next = self.tracker.next(Instant::now(), grace);
            let timer = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.cluster_view.changed() => return true,
                // A successful lift changes no decision: it was counted before.
                Some(sent) = self.sent.join_next() => if sent.is_ok_and(|sent| !self.answered(sent)) {
                    return true;
                },
                () = timer => return true,
                changed = acts.changed() => return changed.is_ok(),
            }
        }
    }

    async fn round(&mut self, since: Instant) {
        let Some((pods, cluster)) = self.cluster_view.see() else { return };
        let now = Instant::now();
        let cluster_view = &self.cluster_view;
        let times = (now, Timestamp::now());
        let view =
            self.tracker.snapshot(&pods, cluster, |pod| cluster_view.closed_nodes(pod), self.deadline, times);
        if view.gated.is_empty() {
            metrics::waiting(&[]);
            return;
        }
        let Some(decisions) = decide(view, self.rule).await else { return };
        if self.rule == Rule::Capacity {
            metrics::waiting(&decisions);
        }
        for decision in self.tracker.decided(&decisions, now) {
            self.patcher.publish(&decision.pod, GateEvent::Waits(decision.message.clone()));
        }
        for Decision { pod, action, message } in decisions {
            let Action::Lift(why) = action else { continue };
            let Some(found) = pods.iter().find(|one| one.metadata.uid.as_deref() == Some(&pod.uid)) else {
                continue;
            };
            let patch = gates::lift_patch(&pod.uid, &Look::of(found, false).our_gates);
            let patcher = self.patcher.clone();
            self.sent.spawn(async move {
                let answer = patcher.lift(pod.clone(), patch).await;
                Sent { pod, why, message, took: since.elapsed(), answer }
            });
        }
    }

    /// Records the outcome of a patch; returns whether the gate was removed.
    fn answered(&mut self, sent: Sent) -> bool {
        let Sent { pod, why, message, took, answer } = sent;
        let now = Instant::now();
        let name = format!("{}/{}", pod.namespace, pod.name);
        match answer {
            PatchOutcome::Lifted => {
                self.tracker.lifted(&pod.uid);
                metrics::lifted(why, took);
                tracing::info!(pod = name, why = why.label(), "A gate was lifted: {message}.");
                self.patcher.publish(&pod, GateEvent::Lifted(why, message));
                return true;
            }
            // The mirror will show that the pod is gone; or another replica leads and lifts.
            PatchOutcome::Gone | PatchOutcome::NotSent => self.tracker.refused(&pod.uid, now),
            PatchOutcome::Refused(because) => {
                metrics::refused();
                tracing::warn!(pod = name, "Failed to lift a gate: {because}");
                self.tracker.refused(&pod.uid, now);
                self.patcher.publish(&pod, GateEvent::Refused(because));
            }
            PatchOutcome::Unknown(because) => {
                tracing::warn!(pod = name, "No definite response to the patch that lifts a gate: {because}");
                self.tracker.unknown(&pod.uid, now);
            }
        }
        false
    }
}

/// Decides on a blocking thread: with many pods and devices it takes longer than other tasks may wait.
async fn decide(view: Snapshot, rule: Rule) -> Option<Vec<Decision>> {
    let decided = tokio::task::spawn_blocking(move || match rule {
        Rule::Capacity => gates::decide(&view),
        Rule::Age { grace } => gates::decide_by_age(&view, grace),
    });
    match decided.await {
        Ok(decisions) => Some(decisions),
        Err(error) => {
            tracing::error!(%error, "Failed to decide on gates; the next change starts another decision.");
            None
        }
    }
}
