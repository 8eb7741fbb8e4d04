//! The task of one upstream: observes it, warms it, opens and closes its barrier as [`Barrier`] says, and gives
//! out its slots.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use sluice_protocol::UpstreamForm;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::connection::H1Connection;
use super::control::{Control, ControlError, digest, resolve};
use super::discovery::form_of;
use super::epoch::{Barrier, Effect, Event, Identity, Phase};
use super::warm_model::{WarmError, WarmModel, warm_model};
use super::{Epoch, Report, Upstream};
use crate::queue::handle::Event as QueueEvent;
use crate::queue::{ModelHandle, Slot};
use crate::registry::Models;
use crate::settings::Live;

/// Pause after the first failed connection; grows with each further one.
const RETRY_STEP: Duration = Duration::from_millis(50);
/// Longest pause.
const RETRY_MAX: Duration = Duration::from_millis(500);
/// How often health and metadata are asked for while all is well.
const QUESTION_INTERVAL: Duration = Duration::from_secs(1);

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
    form: Option<UpstreamForm>,
    warm: HashMap<Arc<str>, WarmModel>,
    last_trouble: String,
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
                    let address = control.address();
                    let grpc_address = match &self.upstream.member.grpc_address {
                        Some(grpc) => resolve(grpc).await.unwrap_or(address),
                        None => address,
                    };
                    let epoch = Epoch { number, address, grpc_address, identity };
                    self.upstream.epoch.store(Some(Arc::new(epoch)));
                }
                tracing::info!(upstream = self.upstream.name(), epoch = number, "Warming a model server.");
            }
            Effect::Open(number) => {
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
        for handle in self.models.borrow().iter() {
            handle.tell(QueueEvent::SlotsChanged);
        }
    }

    /// Connects and asks who is there.
    async fn identify(&mut self) -> Event {
        // Reports about an epoch that is over.
        while self.reports.try_recv().is_ok() {}
        let failures = self.state.barrier.failures();
        tokio::time::sleep((RETRY_STEP * failures).min(RETRY_MAX)).await;
        match self.observe().await {
            Ok(Some(identity)) => Event::Observed(identity),
            Ok(None) => self.failed("it says that it is not ready".to_owned()),
            Err(error) => self.failed(error.to_string()),
        }
    }

    fn failed(&mut self, trouble: String) -> Event {
        if trouble != self.state.last_trouble {
            tracing::info!(upstream = self.upstream.name(), trouble, "A model server is not there yet.");
            self.state.last_trouble = trouble;
        }
        Event::ConnectFailed
    }

    async fn observe(&mut self) -> Result<Option<Identity>, ControlError> {
        self.state.control = None;
        let address = resolve(self.upstream.address()).await?;
        let mut control = Control::open(address, self.upstream.host().clone()).await?;
        self.state.connections += 1;
        if !control.is_ready().await? {
            return Ok(None);
        }
        let server = control.server_metadata().await?;
        self.state.form = Some(form_of(self.settings.now().upstream_form, server.as_deref()));
        let mut documents = vec![server];
        for model in &self.settings.now().models {
            documents.push(control.model_metadata(model).await?);
        }
        let listeners = control.listeners().to_vec();
        let connection = if listeners.is_empty() { self.state.connections } else { 0 };
        self.state.control = Some(control);
        self.state.last_trouble.clear();
        Ok(Some(Identity { listeners, connection, metadata: digest(&documents) }))
    }

    /// Warms all models that are known.
    async fn warm(&mut self) -> Event {
        let epoch = self.state.barrier.epoch();
        let models = self.models.borrow().clone();
        for handle in models.iter() {
            if let Err(error) = self.warm_one(handle).await
                && !self.is_left_cold(handle, &error)
            {
                return self.not_warm(handle, error).await;
            }
        }
        match &self.state.control {
            Some(control) if control.still_there() => Event::Warmed(epoch),
            _ => Event::Lost,
        }
    }

    async fn warm_one(&mut self, handle: &ModelHandle) -> Result<(), WarmError> {
        let form = self.state.form.unwrap_or(UpstreamForm::Json);
        let Some(control) = &mut self.state.control else {
            return Err(WarmError::NotYet("there is no connection".to_owned()));
        };
        let warm = warm_model(control, &handle.model, form, &self.settings.now()).await?;
        handle.set_absent(warm.absent);
        self.state.warm.insert(Arc::clone(&handle.model), warm);
        Ok(())
    }

    /// A model that only clients have named and that cannot be warmed gets no slots; it costs the others nothing.
    fn is_left_cold(&self, handle: &ModelHandle, error: &WarmError) -> bool {
        let named = self.settings.now().models.iter().any(|model| **model == *handle.model);
        match error {
            WarmError::NotYet(reason) if !named => {
                tracing::error!(upstream = self.upstream.name(), model = %handle.model, reason, "A model that the settings do not name cannot be warmed; its requests are not served here.");
                true
            }
            _ => false,
        }
    }

    async fn not_warm(&mut self, handle: &ModelHandle, error: WarmError) -> Event {
        let name = self.upstream.name();
        match &error {
            WarmError::Lost(error) => {
                tracing::warn!(upstream = name, model = %handle.model, %error, "Warm-up broke off.");
            }
            WarmError::NotYet(reason) => {
                tracing::error!(upstream = name, model = %handle.model, reason, "A model cannot be warmed; its barrier stays closed.");
                tokio::time::sleep(RETRY_MAX).await;
            }
        }
        Event::Lost
    }

    /// Gives a model all its slots of this epoch.
    async fn give_slots(&self, handle: &ModelHandle) {
        let Some(warm) = self.state.warm.get(&handle.model) else { return };
        handle.tell(QueueEvent::Warmed(warm.times.clone()));
        for _ in 0..self.settings.now().slots_per_upstream {
            self.give_slot(handle).await;
        }
    }

    async fn give_slot(&self, handle: &ModelHandle) {
        let (Some(warm), Some(epoch)) = (self.state.warm.get(&handle.model), self.upstream.epoch()) else {
            return;
        };
        // A connection made ahead saves the first request the handshake. If it fails, the dispatch finds out. One to
        // a server elsewhere could only be verified by a question, which the dispatch asks when it connects.
        let local = self.state.control.as_ref().filter(|control| !control.listeners().is_empty());
        let connection = match local {
            Some(_) => H1Connection::open(epoch.address).await.ok(),
            None => None,
        };
        let verified = local.is_some_and(Control::still_there);
        handle.tell(QueueEvent::Slot(Slot {
            upstream: Arc::clone(&self.upstream),
            epoch,
            profile: Arc::clone(&warm.profile),
            connection: connection.filter(|_| verified),
        }));
    }

    /// All is well: look out for the moment when it no longer is.
    async fn watch(&mut self) -> Event {
        let mut probe = interval(Duration::from_millis(self.settings.now().probe_ms));
        probe.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut question = interval(QUESTION_INTERVAL);
        question.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let Some(control) = &mut self.state.control else { return Event::Lost };
            tokio::select! {
                () = control.until_closed() => {
                    // A server may close an idle connection; it is the same one if the same socket still listens.
                    if control.listeners().is_empty() || !control.still_there() || !self.reconnect().await {
                        return Event::Lost;
                    }
                }
                _ = probe.tick() => {
                    if !control.still_there() {
                        return Event::Lost;
                    }
                }
                _ = question.tick() => {
                    if !self.answers_as_before().await {
                        return Event::Lost;
                    }
                }
                report = self.reports.recv() => match report {
                    Some(report) => if !self.on_report(report).await {
                        return Event::Lost;
                    },
                    None => return Event::Removed,
                },
                changed = self.models.changed() => {
                    if changed.is_err() {
                        return Event::Removed;
                    }
                    if let Some(event) = self.warm_new_models().await {
                        return event;
                    }
                }
            }
        }
    }

    async fn reconnect(&mut self) -> bool {
        let Some(old) = &self.state.control else { return false };
        let Ok(control) = Control::open(old.address(), self.upstream.host().clone()).await else {
            return false;
        };
        let same = control.listeners() == old.listeners();
        self.state.control = Some(control);
        same
    }

    /// Whether health and metadata are what they were when the epoch was warmed.
    async fn answers_as_before(&mut self) -> bool {
        let Some(control) = &mut self.state.control else { return false };
        let known: Vec<(Arc<str>, Option<Bytes>)> =
            self.state.warm.iter().map(|(model, warm)| (Arc::clone(model), warm.metadata.clone())).collect();
        let answers = async {
            if !control.is_ready().await? {
                return Ok(false);
            }
            for (model, before) in &known {
                if control.model_metadata(model).await? != *before {
                    return Ok(false);
                }
            }
            Ok::<_, ControlError>(true)
        };
        match answers.await {
            Ok(same) => same,
            // Closed just now, or too busy to answer: the same one may be asked over another connection.
            Err(ControlError::Broken(_) | ControlError::Timeout(..))
                if control.still_there() && !control.listeners().is_empty() =>
            {
                self.reconnect().await
            }
            Err(_) => false,
        }
    }

    /// False where the report shows that the epoch is over.
    async fn on_report(&mut self, report: Report) -> bool {
        let current = self.state.barrier.epoch();
        match report {
            Report::Verify { epoch, reply } => {
                let Some(control) = &mut self.state.control else { return false };
                let same = epoch == current && control.is_ready().await.unwrap_or(false);
                let _ = reply.send(same);
                same || epoch != current
            }
            Report::SlotFailed { epoch, .. } if epoch != current => true,
            Report::SlotFailed { model, .. } => {
                if !self.answers_as_before().await
                    || !self.state.control.as_ref().is_some_and(Control::still_there)
                {
                    return false;
                }
                let models = self.models.borrow().clone();
                if let Some(handle) = models.iter().find(|handle| handle.model == model) {
                    self.give_slot(handle).await;
                }
                true
            }
        }
    }

    /// Warms models that were asked for since the barrier opened; it stays open for the others meanwhile.
    async fn warm_new_models(&mut self) -> Option<Event> {
        let models = self.models.borrow_and_update().clone();
        self.state.warm.retain(|model, _| models.iter().any(|handle| handle.model == *model));
        for handle in models.iter() {
            if self.state.warm.contains_key(&handle.model) {
                continue;
            }
            match self.warm_one(handle).await {
                Ok(()) => self.give_slots(handle).await,
                Err(error) if self.is_left_cold(handle, &error) => {}
                Err(error) => return Some(self.not_warm(handle, error).await),
            }
        }
        None
    }

    async fn until_idle(&mut self) {
        while self.upstream.inflight() > 0 {
            self.upstream.idle.notified().await;
        }
        tracing::info!(upstream = self.upstream.name(), "A removed model server has drained.");
    }
}
