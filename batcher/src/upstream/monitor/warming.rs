//! Warms models and gives out the slots of warm ones.

use std::sync::Arc;

use sluice_protocol::InferRequest;
use tokio::task::{JoinError, JoinSet};

use super::{Monitor, RETRY_MAX};
use crate::queue::handle::Event as QueueEvent;
use crate::queue::{ModelHandle, Slot};
use crate::settings::{Settings, Warmup};
use crate::upstream::connection::Connection;
use crate::upstream::control::Control;
use crate::upstream::epoch::Event;
use crate::upstream::recorded;
use crate::upstream::warm_model::{WarmError, WarmModel, warm_model};

impl Monitor {
    /// Warms all models that are known, but those that broke this off before.
    pub(super) async fn warm(&mut self) -> Event {
        let epoch = self.state.barrier.epoch();
        let models = self.models.borrow().clone();
        for handle in models.iter() {
            let is_named = self.is_named(handle);
            if !is_named && self.state.beside.contains(&handle.model) {
                continue;
            }
            match self.warm_one(handle).await {
                Ok(()) => {}
                Err(WarmError::NotYet(reason)) if !is_named => self.left_cold(handle, &reason),
                Err(error) => {
                    if !is_named {
                        self.state.beside.insert(Arc::clone(&handle.model));
                    }
                    return self.not_warm(handle, error).await;
                }
            }
        }
        match &self.state.control {
            Some(control) if control.still_there() => Event::Warmed(epoch),
            _ => Event::Lost,
        }
    }

    async fn warm_one(&mut self, handle: &ModelHandle) -> Result<(), WarmError> {
        let spoken = self.state.spoken;
        let Some(control) = &mut self.state.control else {
            return Err(WarmError::NotYet("there is no connection".to_owned()));
        };
        let settings = self.settings.now();
        let recorded = recorded(handle, &settings);
        let warm = warm_model(control, &handle.model, spoken, &settings, &recorded).await?;
        self.now_warm(handle, warm);
        Ok(())
    }

    fn now_warm(&mut self, handle: &ModelHandle, warm: WarmModel) {
        // One that does not have the model says nothing of it; another one may.
        if !warm.profile.absent {
            handle.set_signature(warm.profile.signature.clone());
        }
        self.state.beside.remove(&handle.model);
        self.state.warm.insert(Arc::clone(&handle.model), warm);
    }

    fn is_named(&self, handle: &ModelHandle) -> bool {
        self.settings.now().models.iter().any(|model| **model == *handle.model)
    }

    /// A model that only clients have named and that cannot be warmed gets no slots; it costs the others nothing.
    fn left_cold(&self, handle: &ModelHandle, reason: &str) {
        tracing::error!(upstream = self.upstream.name(), model = %handle.model, reason, "A model that the settings do not name cannot be warmed; its requests are not served here.");
    }

    async fn not_warm(&mut self, handle: &ModelHandle, error: WarmError) -> Event {
        let name = self.upstream.name();
        match &error {
            WarmError::Lost(error) => {
                tracing::warn!(upstream = name, model = %handle.model, %error, "Warm-up broke off.");
            }
            WarmError::NotYet(reason) => {
                self.publish(Some(format!("model {:?}: {reason}", &*handle.model)));
                tracing::error!(upstream = name, model = %handle.model, reason, "A model cannot be warmed; its barrier stays closed.");
                tokio::time::sleep(RETRY_MAX).await;
            }
        }
        Event::Lost
    }

    /// Gives a model all its slots of this epoch.
    pub(super) async fn give_slots(&self, handle: &ModelHandle) {
        let Some(warm) = self.state.warm.get(&handle.model) else { return };
        handle.tell(QueueEvent::Warmed(warm.times.clone()));
        for _ in 0..self.settings.now().slots_per_upstream.max(1) {
            self.give_slot(handle).await;
        }
    }

    pub(super) async fn give_slot(&self, handle: &ModelHandle) {
        let (Some(warm), Some(epoch)) = (self.state.warm.get(&handle.model), self.upstream.epoch()) else {
            return;
        };
        // A connection made ahead saves the first request the handshake. If it fails, the dispatch finds out. One to
        // a server elsewhere could only be verified by a question, which the dispatch asks when it connects.
        let local = self.state.control.as_ref().filter(|control| !control.listeners().is_empty());
        let connection = match local {
            Some(_) => Connection::open(epoch.wire, epoch.asked_at()).await.ok(),
            None => None,
        };
        let verified = local.is_some_and(Control::still_there);
        handle.tell(QueueEvent::Slot(Slot {
            upstream: Arc::clone(&self.upstream),
            epoch,
            profile: Arc::clone(&warm.profile),
            connections: connection.filter(|_| verified).into(),
        }));
    }

    /// Warms models that were asked for since the barrier opened, each over a connection of its own: the barrier
    /// stays open for the others meanwhile, and is watched.
    pub(super) fn warm_new_models(&mut self, warming: &mut JoinSet<NewModel>) {
        let models = self.models.borrow_and_update().clone();
        self.state.warm.retain(|model, _| models.iter().any(|handle| handle.model == *model));
        self.state.asked.retain(|model| models.iter().any(|handle| handle.model == *model));
        self.state.beside.retain(|model| models.iter().any(|handle| handle.model == *model));
        for handle in models.iter() {
            self.warm_new_model(handle, warming);
        }
    }

    /// Warms the models that broke the warm-up off, now that the barrier is open for the others.
    pub(super) fn warm_beside(&mut self, warming: &mut JoinSet<NewModel>) {
        let models = self.models.borrow().clone();
        for handle in models.iter() {
            if self.state.beside.contains(&handle.model) {
                self.warm_new_model(handle, warming);
            }
        }
    }

    fn warm_new_model(&mut self, handle: &Arc<ModelHandle>, warming: &mut JoinSet<NewModel>) {
        let Some(control) = &self.state.control else { return };
        let known = self.state.warm.contains_key(&handle.model);
        if known || !self.state.asked.insert(Arc::clone(&handle.model)) {
            return;
        }
        let (place, listeners, spoken) =
            (control.place().clone(), control.listeners().to_vec(), self.state.spoken);
        let (handle, settings) = (Arc::clone(handle), self.settings.now());
        warming.spawn(async move {
            let warm = async {
                let mut control = Control::open(place).await?;
                if control.listeners() != listeners {
                    return Err(WarmError::NotYet("another process listens there now".to_owned()));
                }
                let recorded = recorded(&handle, &settings);
                warm_model(&mut control, &handle.model, spoken, &settings, &recorded).await
            };
            let warm = warm.await;
            NewModel { handle, warm }
        });
    }

    /// An event where the epoch does not go on.
    pub(super) async fn new_model_warmed(&mut self, ended: Result<NewModel, JoinError>) -> Option<Event> {
        let NewModel { handle, warm } = match ended {
            Ok(ended) => ended,
            Err(error) => {
                tracing::error!(%error, "The warm-up of a model ended.");
                return Some(Event::Lost);
            }
        };
        self.state.asked.remove(&handle.model);
        match warm {
            Ok(warm) => {
                self.now_warm(&handle, warm);
                self.publish(None);
                self.give_slots(&handle).await;
                None
            }
            Err(error) => {
                let is_there = self.state.control.as_ref().is_some_and(Control::still_there);
                // Its own connection says nothing of the others where the server is still there.
                if !self.is_named(&handle) && (matches!(error, WarmError::NotYet(_)) || is_there) {
                    self.left_cold(&handle, &error.to_string());
                    return None;
                }
                Some(self.not_warm(&handle, error).await)
            }
        }
    }
}

/// A model that was warmed while others were served, or was not.
pub(super) struct NewModel {
    handle: Arc<ModelHandle>,
    warm: Result<WarmModel, WarmError>,
}

/// Requests of live traffic: those of this process, or else what others have left in the folder of bodies.
fn recorded(handle: &ModelHandle, settings: &Settings) -> Vec<InferRequest> {
    if settings.warmup != Warmup::Recorded {
        return Vec::new();
    }
    let own = handle.samples.all();
    match &settings.warmup_bodies {
        Some(folder) if own.is_empty() => recorded::read(folder, &handle.model),
        _ => own,
    }
}
