//! The task of one upstream: observes it, warms it, opens and closes its barrier as [`Barrier`] says, and gives
//! out its slots.

mod identify;
mod warming;
mod watching;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::connection::Wire;
use super::control::{Control, resolve};
use super::discovery::{Discovered, Spoken};
use super::epoch::{Barrier, Effect, Event, Identity, Phase};
use super::warm_model::WarmModel;
use super::{Epoch, Report, Upstream};
use crate::queue::handle::Event as QueueEvent;
use crate::registry::Models;
use crate::settings::{Live, Member};

/// Longest pause between two attempts.
const RETRY_MAX: Duration = Duration::from_millis(500);

/// The monitor of one upstream.
pub(super) struct Monitor {
    pub(super) upstream: Arc<Upstream>,
    pub(super) reports: mpsc::UnboundedReceiver<Report>,
    pub(super) models: watch::Receiver<Models>,
    pub(super) removed: CancellationToken,
    /// Told whenever the barrier of any upstream moves.
    pub(super) changed: watch::Sender<()>,
    pub(super) settings: Live,
    pub(super) state: State,
}

/// What only the monitor knows.
#[derive(Default)]
pub(super) struct State {
    barrier: Barrier,
    control: Option<Control>,
    connections: u64,
    spoken: Spoken,
    warm: HashMap<Arc<str>, WarmModel>,
    /// Models that are being warmed while others are served.
    asked: HashSet<Arc<str>>,
    /// Models that only clients have named and whose warm-up broke the connection: they are warmed over one of their
    /// own, when the barrier is open for the others.
    beside: HashSet<Arc<str>>,
    last_trouble: String,
    /// Digest of the settings when it was observed.
    warmed_with: u64,
}

impl Monitor {
    /// Runs until the upstream has been removed and nothing is in flight any more.
    pub(super) async fn run(mut self) -> Arc<Upstream> {
        let removed = self.removed.clone();
        loop {
            let phase = self.state.barrier.phase();
            let step = async {
                match phase {
                    Phase::Connecting | Phase::Down => self.identify().await,
                    Phase::Warming => self.warm().await,
                    Phase::Ready => self.watch().await,
                    Phase::Draining => {
                        self.until_idle().await;
                        Event::Removed
                    }
                }
            };
            let event = if phase == Phase::Draining {
                step.await;
                return self.upstream;
            } else {
                tokio::select! {
                    event = step => event,
                    () = removed.cancelled() => Event::Removed,
                }
            };
            self.apply(event).await;
        }
    }

    async fn apply(&mut self, event: Event) {
        let identity = match &event {
            Event::Observed(identity) => Some(identity.clone()),
            _ => None,
        };
        let effect = self.state.barrier.on(event);
        let phase = self.state.barrier.phase();
        let name = self.upstream.name();
        match effect {
            Effect::None => {}
            Effect::Warm(number) => {
                self.close();
                if let (Some(identity), Some(control)) = (identity, &self.state.control) {
                    let epoch = places(control, &self.upstream.member, number, identity).await;
                    self.upstream.epoch.store(Some(Arc::new(epoch)));
                }
                tracing::info!(upstream = self.upstream.name(), epoch = number, "Warming a model server.");
            }
            Effect::Open(number) => {
                self.publish(None);
                self.upstream.open.store(number, Ordering::SeqCst);
                tracing::info!(
                    upstream = name,
                    epoch = number,
                    models = self.state.warm.len(),
                    "A model server is warm; its barrier is open."
                );
                let models = self.models.borrow_and_update().clone();
                for handle in models.iter() {
                    self.give_slots(handle).await;
                }
            }
            Effect::Close => {
                tracing::warn!(
                    upstream = name,
                    epoch = self.state.barrier.epoch(),
                    "A model server is gone or has changed; its barrier is closed."
                );
                self.close();
                self.state.control = None;
            }
            Effect::Drain => {
                tracing::info!(
                    upstream = name,
                    inflight = self.upstream.inflight(),
                    "A model server was removed; it drains."
                );
                self.close();
            }
        }
        self.upstream.phase.store(phase as u8, Ordering::SeqCst);
        self.changed.send_replace(());
    }

    /// Closes the barrier: nothing new starts, and slots are void.
    fn close(&mut self) {
        self.upstream.open.store(0, Ordering::SeqCst);
        self.state.warm.clear();
        self.state.asked.clear();
        for handle in self.models.borrow().iter() {
            handle.tell(QueueEvent::SlotsChanged);
        }
    }

    /// Tells operators what is known of the model server.
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

/// The epoch of the server that is asked over `control`. Its other port is where the membership says.
async fn places(control: &Control, member: &Member, number: u64, identity: Identity) -> Epoch {
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
