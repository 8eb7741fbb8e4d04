//! The loop: a change, a look, a decision, and lifts, whose answers are waited for beside the next round.

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

use super::book::Book;
use super::events::Telling;
use super::figures;
use crate::gates::{self, Action, PodRef, Verdict, View, Why};

/// How long a new leader looks on: the last lifts of the one before must have reached the mirrors.
pub(super) const SETTLE: Duration = Duration::from_secs(1);

/// By what gates are lifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// By what is free, and all else that [`gates::decide`] knows.
    Capacity,
    /// By age alone, that long after the deadline.
    Age {
        /// Time for whoever decides by capacity.
        grace: Duration,
    },
}

/// What there is, as far as it is known here.
pub(super) trait Sight: Send {
    /// Pods and the inventory; `None` before they were listed.
    fn see(&mut self) -> Option<(Vec<Arc<Pod>>, Cluster)>;
    /// Nodes that do not take a pod like this one.
    fn closed_nodes(&self, pod: &Pod) -> Arc<BTreeSet<String>>;
    /// Resolves when something changed since the last [`see`](Self::see).
    fn changed(&mut self) -> impl Future<Output = ()> + Send;
}

/// Who writes.
pub(super) trait Hands: Clone + Send + Sync + 'static {
    /// Applies the patch to the pod.
    fn lift(&self, pod: PodRef, patch: Patch) -> impl Future<Output = Answer> + Send;
    /// Tells people, if that is possible just now.
    fn tell(&self, pod: &PodRef, telling: Telling);
}

/// What came of a patch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// The gate is gone.
    Lifted,
    /// The pod is gone.
    Gone,
    /// It stays, because of this.
    Refused(String),
    /// Nobody knows, because of this.
    Unknown(String),
    /// This process may not act any more.
    NotSent,
}

/// One patch that was sent.
struct Sent {
    pod: PodRef,
    why: Why,
    message: String,
    /// From the change that made it possible to the answer.
    took: Duration,
    answer: Answer,
}

/// Owns the book.
pub(super) struct Lifter<S, H> {
    deadline: Duration,
    rule: Rule,
    sight: S,
    hands: H,
    book: Book,
    sent: JoinSet<Sent>,
}

impl<S: Sight, H: Hands> Lifter<S, H> {
    pub(super) fn new(deadline: Duration, rule: Rule, sight: S, hands: H) -> Self {
        Self { deadline, rule, sight, hands, book: Book::default(), sent: JoinSet::new() }
    }

    /// Lifts while `acts` says true; ends when nobody can say so any more.
    pub(super) async fn run(mut self, mut acts: watch::Receiver<bool>) {
        figures::start();
        while acts.wait_for(|acts| *acts).await.is_ok() {
            self.book = Book::default();
            sleep(SETTLE).await;
            self.act(&mut acts).await;
            figures::waiting(&[]);
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

    /// Waits until there may be something to decide; false when nobody can say any more who acts.
    async fn wait(&mut self, acts: &mut watch::Receiver<bool>) -> bool {
        let grace = match self.rule {
            Rule::Capacity => Duration::ZERO,
            Rule::Age { grace } => grace,
        };
        loop {
            let next = self.book.next(Instant::now(), grace);
            let timer = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.sight.changed() => return true,
                // What went well changes no decision: it was counted before.
                Some(sent) = self.sent.join_next() => if sent.is_ok_and(|sent| !self.answered(sent)) {
                    return true;
                },
                () = timer => return true,
                changed = acts.changed() => return changed.is_ok(),
            }
        }
    }

    async fn round(&mut self, since: Instant) {
        let Some((pods, cluster)) = self.sight.see() else { return };
        let now = Instant::now();
        let sight = &self.sight;
        let times = (now, Timestamp::now());
        let view = self.book.view(&pods, cluster, |pod| sight.closed_nodes(pod), self.deadline, times);
        if view.gated.is_empty() {
            figures::waiting(&[]);
            return;
        }
        let Some(verdicts) = decide(view, self.rule).await else { return };
        if self.rule == Rule::Capacity {
            figures::waiting(&verdicts);
        }
        for verdict in self.book.decided(&verdicts, now) {
            self.hands.tell(&verdict.pod, Telling::Waits(verdict.message.clone()));
        }
        for Verdict { pod, action, message } in verdicts {
            let Action::Lift(why) = action else { continue };
            let Some(gates) = pods.iter().find(|one| one.metadata.uid.as_deref() == Some(&pod.uid)) else {
                continue;
            };
            let patch = gates::lift_patch(&pod.uid, &gates::our_gates(gates));
            let hands = self.hands.clone();
            self.sent.spawn(async move {
                let answer = hands.lift(pod.clone(), patch).await;
                Sent { pod, why, message, took: since.elapsed(), answer }
            });
        }
    }

    /// Whether the gate is gone.
    fn answered(&mut self, sent: Sent) -> bool {
        let Sent { pod, why, message, took, answer } = sent;
        let now = Instant::now();
        let name = format!("{}/{}", pod.namespace, pod.name);
        match answer {
            Answer::Lifted => {
                self.book.lifted(&pod.uid);
                figures::lifted(why, took);
                tracing::info!(pod = name, why = why.label(), "A gate was lifted: {message}.");
                self.hands.tell(&pod, Telling::Lifted(why, message));
                return true;
            }
            // The mirror will show that the pod is gone; or another leads and lifts.
            Answer::Gone | Answer::NotSent => self.book.refused(&pod.uid, now),
            Answer::Refused(because) => {
                figures::refused();
                tracing::warn!(pod = name, "A gate could not be lifted: {because}");
                self.book.refused(&pod.uid, now);
                self.hands.tell(&pod, Telling::Refused(because));
            }
            Answer::Unknown(because) => {
                tracing::warn!(pod = name, "It is not known whether a gate was lifted: {because}");
                self.book.unknown(&pod.uid, now);
            }
        }
        false
    }
}

/// Decides beside the runtime: with many pods and devices it takes longer than others may be kept waiting.
async fn decide(view: View, rule: Rule) -> Option<Vec<Verdict>> {
    let decided = tokio::task::spawn_blocking(move || match rule {
        Rule::Capacity => gates::decide(&view),
        Rule::Age { grace } => gates::decide_by_age(&view, grace),
    });
    match decided.await {
        Ok(verdicts) => Some(verdicts),
        Err(error) => {
            tracing::error!(%error, "A decision on gates failed; the next change brings another.");
            None
        }
    }
}
