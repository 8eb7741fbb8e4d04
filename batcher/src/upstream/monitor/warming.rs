//! Warms models and gives out the slots of warm models.

use std::sync::Arc;

use sluice_protocol::InferRequest;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::Monitor;
use crate::settings::{Settings, Warmup};
use crate::upstream::connection::Connection;
use crate::upstream::control::ControlConnection;
use crate::upstream::epoch::EpochEvent;
use crate::upstream::models::ServedModel;
use crate::upstream::recorded;
use crate::upstream::slot::Slot;
use crate::upstream::warm_model::{WarmError, WarmModel, warm_model};

impl<M: ServedModel> Monitor<M> {
    /// Warms the models without which the barrier stays closed. All others are warmed while it is open, when they are
    /// asked for.
    pub(super) async fn warm(&mut self) -> EpochEvent {
        let epoch = self.state.barrier.epoch();
        let models = self.models.borrow().clone();
        for model in self.required(&models) {
            let is_named = self.is_named(&model);
            if !is_named && self.state.beside.contains(model.name()) {
                continue;
            }
            match self.warm_one(&model).await {
                Ok(()) => {}
                Err(WarmError::NotYet(reason)) if !is_named => self.left_cold(&model, &reason),
                Err(error) => {
                    if !is_named {
                        self.state.beside.insert(Arc::clone(model.name()));
                    }
                    return self.not_warm(&model, error).await;
                }
            }
        }
        match &self.state.control {
            Some(control) if control.still_there() => EpochEvent::Warmed(epoch),
            _ => EpochEvent::Lost,
        }
    }

    async fn warm_one(&mut self, model: &M) -> Result<(), WarmError> {
        let spoken = self.state.spoken;
        let Some(control) = &mut self.state.control else {
            return Err(WarmError::NotYet("there is no connection".to_owned()));
        };
        let settings = self.settings.now();
        let recorded = recorded(model, &settings);
        let warm = warm_model(control, model.name(), spoken, &settings, &recorded).await?;
        self.now_warm(model, warm);
        Ok(())
    }

    fn now_warm(&mut self, model: &M, warm: WarmModel) {
        let told = &warm.documents;
        if told.metadata.is_some() || told.v1.is_some() || told.is_listed {
            self.upstream.has_told(self.state.barrier.epoch(), told.metadata.is_some());
        }
        // A server that lacks the model has no signature; one from another server stays.
        if !warm.profile.absent {
            model.set_signature(warm.profile.signature.clone());
        }
        self.state.beside.remove(model.name());
        self.state.cold.remove(model.name());
        self.state.warm.insert(Arc::clone(model.name()), warm);
    }

    /// Returns the models that the barrier requires: those that the settings name. If the settings name none, it is one
    /// that is in use, so that a ready server can serve some requests at once: the one that was asked for last, of
    /// those with waiting requests if there are any.
    fn required(&self, models: &[Arc<M>]) -> Vec<Arc<M>> {
        if !self.settings.now().models.models.is_empty() {
            return models.iter().filter(|model| self.is_named(model)).cloned().collect();
        }
        let asked = models.iter().filter(|model| model.asked_us() > 0);
        asked.max_by_key(|model| (model.queued_rows() > 0, model.asked_us())).cloned().into_iter().collect()
    }

    fn is_named(&self, model: &M) -> bool {
        self.settings.now().models.models.iter().any(|name| **name == **model.name())
    }

    /// Leaves a model cold that only clients have named and that cannot be warmed: it gets no slots and does not delay
    /// the others. It is tried again when it is asked for again, less and less often.
    fn left_cold(&mut self, model: &M, reason: &str) {
        let cold = self.state.cold.entry(Arc::clone(model.name())).or_default();
        if cold.trouble.stands(reason, Instant::now()).is_some() {
            tracing::error!(upstream = self.upstream.name(), model = %model.name(), reason, "A model that the settings do not name cannot be warmed; its requests are not served here.");
        }
        cold.until = Some(Instant::now() + cold.trouble.pause());
        cold.failed_us = model.now_us();
    }

    /// Returns whether the model should be warmed: the settings name it, requests wait for it, or it was asked for
    /// since the epoch began or its last failed attempt. False during the pause after a failure.
    fn is_asked_for(&self, model: &M) -> bool {
        let cold = self.state.cold.get(model.name());
        if cold.and_then(|cold| cold.until).is_some_and(|until| Instant::now() < until) {
            return false;
        }
        let since_us = cold.map_or(self.state.since_us, |cold| cold.failed_us);
        self.is_named(model) || model.queued_rows() > 0 || model.asked_us() > since_us
    }

    async fn not_warm(&mut self, model: &M, error: WarmError) -> EpochEvent {
        // A server that was lost may be back at once; one that breaks off each time is tried less often.
        let is_first = !self.state.trouble.is_standing();
        let (reason, message, is_lost) = match &error {
            WarmError::Lost(error) => (error.to_string(), "Warm-up broke off.", true),
            WarmError::NotYet(reason) => {
                (reason.clone(), "A model cannot be warmed; its barrier stays closed.", false)
            }
        };
        self.not_ready(&format!("model {:?}: {reason}", &**model.name()), message);
        if !(is_first && is_lost) {
            self.pause().await;
        }
        EpochEvent::Lost
    }

    /// Gives a model all its slots of the current epoch.
    pub(super) async fn give_slots(&self, model: &M) {
        let Some(warm) = self.state.warm.get(model.name()) else { return };
        model.warmed(warm.times.clone());
        for _ in 0..self.settings.now().batching.slots_per_upstream.max(1) {
            self.give_slot(model).await;
        }
    }

    pub(super) async fn give_slot(&self, model: &M) {
        let (Some(warm), Some(epoch)) = (self.state.warm.get(model.name()), self.upstream.epoch()) else {
            return;
        };
        // Opening a connection now saves the first request the handshake. If it fails, the dispatch opens one. A
        // connection to a server on another machine is verified by a question, so it is left to the dispatch.
        let ahead = |control: &&ControlConnection| !control.listeners().is_empty() && !control.closes();
        let local = self.state.control.as_ref().filter(ahead);
        let connection = match local {
            Some(_) => Connection::open(epoch.wire, epoch.asked_at()).await.ok(),
            None => None,
        };
        let verified = local.is_some_and(ControlConnection::still_there);
        model.give(Slot {
            upstream: Arc::clone(&self.upstream),
            epoch,
            profile: Arc::clone(&warm.profile),
            connections: connection.filter(|_| verified).into(),
        });
    }

    /// Starts to warm cold models that are asked for, each over a separate connection. The barrier stays open for the
    /// others meanwhile, and is watched.
    pub(super) fn warm_asked_models(&mut self, warming: &mut JoinSet<NewModel<M>>) {
        let models = self.models.borrow_and_update().clone();
        let is_known = |model: &Arc<str>| models.iter().any(|known| known.name() == model);
        self.state.warm.retain(|model, _| is_known(model));
        self.state.asked.retain(is_known);
        self.state.beside.retain(is_known);
        self.state.cold.retain(|model, _| is_known(model));
        for model in models.iter() {
            if !self.state.warm.contains_key(model.name()) && self.is_asked_for(model) {
                self.warm_new_model(model, warming);
            }
        }
    }

    fn warm_new_model(&mut self, model: &Arc<M>, warming: &mut JoinSet<NewModel<M>>) {
        let Some(control) = &self.state.control else { return };
        if !self.state.asked.insert(Arc::clone(model.name())) {
            return;
        }
        let (place, listeners, spoken) =
            (control.place().clone(), control.listeners().to_vec(), self.state.spoken);
        let (model, settings) = (Arc::clone(model), self.settings.now());
        warming.spawn(async move {
            let warm = async {
                let mut control = ControlConnection::open(place).await?;
                if control.listeners() != listeners {
                    return Err(WarmError::NotYet("another process listens there now".to_owned()));
                }
                let recorded = recorded(&*model, &settings);
                warm_model(&mut control, model.name(), spoken, &settings, &recorded).await
            };
            let warm = warm.await;
            NewModel { model, warm }
        });
    }

    /// Takes the result of such a warm-up; returns an event if the epoch is over.
    pub(super) async fn new_model_warmed(
        &mut self,
        ended: Result<NewModel<M>, JoinError>,
    ) -> Option<EpochEvent> {
        let NewModel { model, warm } = match ended {
            Ok(ended) => ended,
            Err(error) => {
                tracing::error!(%error, "The warm-up task of a model has failed.");
                return Some(EpochEvent::Lost);
            }
        };
        self.state.asked.remove(model.name());
        match warm {
            Ok(warm) => {
                self.now_warm(&model, warm);
                self.publish(None);
                self.give_slots(&model).await;
                None
            }
            Err(error) => {
                let is_there = self.state.control.as_ref().is_some_and(ControlConnection::still_there);
                // While the server is still there, a failure of this connection does not concern the other models.
                if !self.is_named(&model) && (matches!(error, WarmError::NotYet(_)) || is_there) {
                    self.left_cold(&model, &error.to_string());
                    return None;
                }
                Some(self.not_warm(&model, error).await)
            }
        }
    }
}

/// Result of the warm-up of a model while others are served.
pub(super) struct NewModel<M> {
    model: Arc<M>,
    warm: Result<WarmModel, WarmError>,
}

/// Returns recorded requests of live traffic: those of this process, else those that other processes have left in the
/// folder of warm-up bodies. Empty unless `warmup` is `recorded`.
fn recorded<M: ServedModel>(model: &M, settings: &Settings) -> Vec<InferRequest> {
    if settings.warm_up.warmup != Warmup::Recorded {
        return Vec::new();
    }
    let own = model.samples();
    match &settings.warm_up.warmup_bodies {
        Some(folder) if own.is_empty() => recorded::read(folder, model.name()),
        _ => own,
    }
}
