//! The monitor task of one upstream: observes it, warms it, opens and closes its barrier as [`Barrier`] decides, and
//! gives out its slots.

mod identify;
mod trouble;
mod warming;
mod watching;

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connection::Wire;
use super::control::{ControlConnection, resolve};
use super::discovery::{Discovered, Spoken};
use super::epoch::{Barrier, Effect, EpochEvent, Identity, Phase};
use super::models::ServedModel;
use super::warm_model::WarmModel;
use super::{Epoch, Report, Upstream};
use crate::settings::{Live, Member};
use trouble::Trouble;

/// Longest pause between two attempts to connect.
const RETRY_MAX: Duration = Duration::from_millis(500);

/// The monitor of one upstream.
pub(super) struct Monitor<M> {
    pub(super) upstream: Arc<Upstream>,
    pub(super) models: watch::Receiver<Arc<Vec<Arc<M>>>>,
    pub(super) removed: CancellationToken,
    /// Notified whenever the barrier of any upstream changes.
    pub(super) changed: watch::Sender<()>,
    pub(super) settings: Live,
    pub(super) state: State,
}

/// State that only the monitor uses.
#[derive(Default)]
pub(super) struct State {
    barrier: Barrier,
    control: Option<ControlConnection>,
    connections: u64,
    spoken: Spoken,
    warm: HashMap<Arc<str>, WarmModel>,
    /// Models that are being warmed while others are served.
    asked: HashSet<Arc<str>>,
    /// Models that only clients have named and whose warm-up broke the connection: they are warmed over a separate one,
    /// when the barrier is open for the others.
    beside: HashSet<Arc<str>>,
    trouble: Trouble,
    /// Models that only clients have named and that could not be warmed.
    cold: HashMap<Arc<str>, Cold>,
    /// When the epoch began, in microseconds of the process's clock.
    since_us: u64,
    /// Digest of the settings when the epoch was observed.
    warmed_with: u64,
}

/// A model that could not be warmed.
#[derive(Default)]
struct Cold {
    trouble: Trouble,
    /// Earliest time of the next attempt, if the model is asked for again.
    until: Option<Instant>,
    /// When the last attempt failed, in microseconds of the process's clock.
    failed_us: u64,
}

impl<M: ServedModel> Monitor<M> {
    /// Runs until the upstream has been removed and has no requests in flight.
    pub(super) async fn run(mut self, mut reports: mpsc::UnboundedReceiver<Report>) -> Arc<Upstream> {
        let removed = self.removed.clone();
        loop {
            let phase = self.state.barrier.phase();
            let step = async {
                match phase {
                    Phase::Connecting | Phase::Down => dropping(&mut reports, self.identify()).await,
                    Phase::Warming => dropping(&mut reports, self.warm()).await,
                    Phase::Ready => self.watch(&mut reports).await,
                    Phase::Draining => {
                        // Closed first, so that later questions fail at once.
                        reports.close();
                        dropping(&mut reports, self.until_idle()).await;
                        EpochEvent::Removed
                    }
                }
            };
            let event = if phase == Phase::Draining {
                step.await;
                return self.upstream;
            } else {
                tokio::select! {
                    event = step => event,
                    () = removed.cancelled() => EpochEvent::Removed,
                }
            };
            self.apply(event).await;
        }
    }

    async fn apply(&mut self, event: EpochEvent) {
        let identity = match &event {
            EpochEvent::Observed(identity) => Some(identity.clone()),
            _ => None,
        };
        let had_failed = self.state.barrier.failures() > 0;
        let effect = self.state.barrier.on(event);
        let phase = self.state.barrier.phase();
        let name = self.upstream.name();
        if phase == Phase::Draining {
            // Stored before other tasks are notified: the server no longer counts among those that may have a model.
            self.upstream.phase.store(phase as u8, Ordering::SeqCst);
        }
        match effect {
            Effect::None => {}
            Effect::Warm(number) => {
                self.close();
                // A model gives access to the process's clock.
                self.state.since_us = self.models.borrow().first().map_or(0, |model| model.now_us());
                if let (Some(identity), Some(control)) = (identity, &self.state.control) {
                    let before = self.upstream.epoch();
                    if before.is_none_or(|before| before.identity.listeners != identity.listeners) {
                        self.state.trouble.begin_anew();
                    }
                    let epoch = places(control, &self.upstream.member, number, identity).await;
                    self.upstream.epoch.store(Some(Arc::new(epoch)));
                }
                // A repeated warm-up for the same reason is logged only for debugging.
                if self.state.trouble.is_standing() && !had_failed {
                    tracing::debug!(
                        upstream = self.upstream.name(),
                        epoch = number,
                        "Warming a model server once more."
                    );
                } else {
                    tracing::info!(
                        upstream = self.upstream.name(),
                        epoch = number,
                        "Warming a model server."
                    );
                }
            }
            Effect::Open(number) => {
                self.state.trouble.is_over();
                self.publish(None);
                self.upstream.open.store(number, Ordering::SeqCst);
                tracing::info!(
                    upstream = name,
                    epoch = number,
                    models = self.state.warm.len(),
                    "A model server is warm; opened its barrier."
                );
                // Not marked as seen: `watch` warms models that were named during the warm-up.
                let models = self.models.borrow().clone();
                for model in models.iter() {
                    self.give_slots(&**model).await;
                }
            }
            Effect::Close => {
                // If the barrier was never open, the reason has been logged.
                if !self.state.trouble.is_standing() {
                    tracing::warn!(
                        upstream = name,
                        epoch = self.state.barrier.epoch(),
                        "A model server is gone or has changed; closed its barrier."
                    );
                }
                self.close();
                self.state.control = None;
            }
            Effect::Drain => {
                tracing::info!(
                    upstream = name,
                    inflight = self.upstream.inflight(),
                    "Draining a model server that was removed."
                );
                self.close();
            }
        }
        self.upstream.phase.store(phase as u8, Ordering::SeqCst);
        self.changed.send_replace(());
    }

    /// Closes the barrier: no request starts any more, and slots become void.
    fn close(&mut self) {
        self.upstream.open.store(0, Ordering::SeqCst);
        self.state.warm.clear();
        self.state.asked.clear();
        self.state.cold.clear();
        for model in self.models.borrow().iter() {
            model.slots_changed();
        }
    }

    /// Records why the model server is not ready: in `/upstreams`, and in the log once per reason and then from time to
    /// time.
    fn not_ready(&mut self, reason: &str, message: &'static str) {
        if let Some(since) = self.state.trouble.stands(reason, Instant::now()) {
            let for_seconds = since.as_secs();
            tracing::warn!(
                upstream = self.upstream.name(),
                address = self.upstream.address(),
                reason,
                for_seconds,
                "{message}"
            );
        }
        if self.upstream.discovered().trouble.as_deref() != Some(reason) {
            self.publish(Some(reason.to_owned()));
            self.changed.send_replace(());
        }
    }

    /// Waits before the next attempt: longer each time, but no longer than until the settings change.
    async fn pause(&mut self) {
        let mut settings = self.settings.subscribe();
        tokio::select! {
            () = tokio::time::sleep(self.state.trouble.pause()) => {}
            _ = settings.changed() => {}
        }
    }

    /// Publishes what is known of the model server, for `/upstreams`.
    fn publish(&self, trouble: Option<String>) {
        let mut models: Vec<_> = self
            .state
            .warm
            .iter()
            .map(|(model, warm)| (Arc::clone(model), Arc::clone(&warm.profile)))
            .collect();
        models.sort_by(|one, other| one.0.cmp(&other.0));
        self.upstream.discovered.store(Arc::new(Discovered { models, trouble }));
    }

    async fn until_idle(&mut self) {
        while self.upstream.inflight() > 0 {
            self.upstream.idle.notified().await;
        }
        tracing::info!(upstream = self.upstream.name(), "A removed model server has drained.");
    }
}

/// Runs a step during which no barrier is open. Reports that come meanwhile are about an epoch that is over. They are
/// dropped, which answers a verification with no.
async fn dropping<T>(reports: &mut mpsc::UnboundedReceiver<Report>, step: impl Future<Output = T>) -> T {
    let mut step = pin!(step);
    loop {
        tokio::select! {
            done = &mut step => return done,
            Some(_) = reports.recv() => {}
        }
    }
}

/// Creates the epoch of the server that is asked over `control`. The address of its other port is from the membership.
async fn places(control: &ControlConnection, member: &Member, number: u64, identity: Identity) -> Epoch {
    let (wire, asked) = (control.wire(), control.endpoint().clone());
    let (http, grpc) = match (wire, &member.grpc_address) {
        (Wire::Rest, None) => (Some(asked.clone()), asked),
        (Wire::Rest, Some(grpc)) => {
            let grpc = resolve(grpc).await.unwrap_or_else(|_| asked.clone());
            (Some(asked), grpc)
        }
        (Wire::Grpc, Some(_)) if !member.is_grpc_only() => (resolve(&member.address).await.ok(), asked),
        (Wire::Grpc, _) => (None, asked),
    };
    Epoch { number, wire, http, grpc, identity }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::upstream::{CONNECT_PATIENCE, ConnectError};

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_an_answer_while_no_barrier_is_open() {
        let (upstream, epoch, mut reports) = Upstream::open_at(([127, 0, 0, 1], 1).into());
        let asked = tokio::time::Instant::now();
        tokio::select! {
            () = dropping(&mut reports, pending()) => {}
            answer = upstream.verify(&epoch) => {
                assert!(matches!(answer, Err(ConnectError::Changed(_))), "{answer:?}");
            }
        }
        assert_eq!(asked.elapsed(), Duration::ZERO);
        // As while it drains: what was asked before, and what is asked after.
        let before = tokio::spawn({
            let (upstream, epoch) = (Arc::clone(&upstream), Arc::clone(&epoch));
            async move { upstream.verify(&epoch).await }
        });
        tokio::task::yield_now().await;
        reports.close();
        dropping(&mut reports, tokio::task::yield_now()).await;
        assert!(matches!(upstream.verify(&epoch).await, Err(ConnectError::Changed(_))));
        drop(reports);
        assert!(matches!(before.await, Ok(Err(ConnectError::Changed(_)))));
        assert_eq!(asked.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_monitor_that_does_not_answer_costs_no_more_than_patience() {
        let (upstream, epoch, _reports) = Upstream::open_at(([127, 0, 0, 1], 1).into());
        let asked = tokio::time::Instant::now();
        assert!(matches!(upstream.verify(&epoch).await, Err(ConnectError::Unverified(_))));
        assert!(asked.elapsed().abs_diff(CONNECT_PATIENCE) <= Duration::from_millis(2));
    }
}
