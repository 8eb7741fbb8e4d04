//! Watches the model server while its barrier is open, for reasons to close it.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::Monitor;
use crate::upstream::Report;
use crate::upstream::control::ControlConnection;
use crate::upstream::epoch::EpochEvent;
use crate::upstream::models::ServedModel;

/// Interval at which health and metadata are asked for.
const QUESTION_INTERVAL: Duration = Duration::from_secs(1);

impl<M: ServedModel> Monitor<M> {
    /// Watches the model server until the barrier must be closed; returns the event that says why.
    pub(super) async fn watch(&mut self, reports: &mut mpsc::UnboundedReceiver<Report>) -> EpochEvent {
        let mut probe = interval(Duration::from_millis(self.settings.now().servers.probe_ms));
        probe.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut question = interval(QUESTION_INTERVAL);
        question.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut settings = self.settings.subscribe();
        let mut warming = JoinSet::new();
        self.warm_asked_models(&mut warming);
        // Checked after subscribing, so that no change is missed.
        if self.is_to_be_warmed_again() {
            return EpochEvent::Lost;
        }
        loop {
            let Some(control) = &mut self.state.control else { return EpochEvent::Lost };
            tokio::select! {
                () = control.until_closed() => {
                    // A server may close an idle connection; it is the same server if the same socket still listens.
                    // The next question opens another connection.
                    if !control.still_there() {
                        return EpochEvent::Lost;
                    }
                }
                _ = probe.tick() => {
                    if !control.still_there() || (control.is_unwatched() && control.refuses().await) {
                        return EpochEvent::Lost;
                    }
                    // The monitor is not notified of each request for a model that is warm on another server.
                    self.warm_asked_models(&mut warming);
                }
                _ = question.tick() => {
                    if !self.answers_as_before().await {
                        return EpochEvent::Lost;
                    }
                }
                report = reports.recv() => match report {
                    Some(report) => if !self.on_report(report).await {
                        return EpochEvent::Lost;
                    },
                    None => return EpochEvent::Removed,
                },
                changed = self.models.changed() => {
                    if changed.is_err() {
                        return EpochEvent::Removed;
                    }
                    self.warm_asked_models(&mut warming);
                }
                Some(ended) = warming.join_next() => {
                    if let Some(event) = self.new_model_warmed(ended).await {
                        return event;
                    }
                }
                changed = settings.changed() => {
                    if changed.is_err() {
                        return EpochEvent::Removed;
                    }
                    if self.is_to_be_warmed_again() {
                        return EpochEvent::Lost;
                    }
                }
            }
        }
    }

    /// Returns whether the settings of batches differ from those that the server was warmed with. Computing the digest
    /// is too expensive for each turn of the loop, which runs on a thread that serves requests.
    fn is_to_be_warmed_again(&self) -> bool {
        let changed = self.settings.now().warmth_digest() != self.state.warmed_with;
        if changed {
            tracing::info!(
                upstream = self.upstream.name(),
                "The settings of batches have changed; warming the model server again."
            );
        }
        changed
    }

    /// Handles a report; returns false if it shows that the epoch is over.
    async fn on_report(&mut self, report: Report) -> bool {
        let current = self.state.barrier.epoch();
        match report {
            Report::Verify { epoch, reply } => {
                let Some(control) = &mut self.state.control else { return false };
                // A server that keeps no connection is not asked: the answer would prove no more than the last one, and
                // a server that serves one connection at a time could not answer while the new one is open.
                let is_known = control.is_unwatched();
                let same = epoch == current && (is_known || control.is_ready().await.unwrap_or(false));
                let _ = reply.send(same);
                same || epoch != current
            }
            Report::SlotFailed { epoch, .. } if epoch != current => true,
            Report::SlotFailed { model, .. } => {
                if !self.answers_as_before().await
                    || !self.state.control.as_ref().is_some_and(ControlConnection::still_there)
                {
                    return false;
                }
                let models = self.models.borrow().clone();
                if let Some(model) = models.iter().find(|other| *other.name() == model) {
                    self.give_slot(&**model).await;
                }
                true
            }
        }
    }
}
