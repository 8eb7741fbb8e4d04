//! Warms models and gives out the slots of warm ones.

use std::sync::Arc;

use sluice_protocol::UpstreamForm;

use super::{Monitor, RETRY_MAX};
use crate::queue::handle::Event as QueueEvent;
use crate::queue::{ModelHandle, Slot};
use crate::upstream::connection::H1Connection;
use crate::upstream::control::Control;
use crate::upstream::epoch::Event;
use crate::upstream::signature::signature_of;
use crate::upstream::warm_model::{WarmError, warm_model};

impl Monitor {
    /// Warms all models that are known.
    pub(super) async fn warm(&mut self) -> Event {
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
        handle.set_signature(warm.metadata.as_deref().and_then(signature_of));
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
    pub(super) async fn give_slots(&self, handle: &ModelHandle) {
        let Some(warm) = self.state.warm.get(&handle.model) else { return };
        handle.tell(QueueEvent::Warmed(warm.times.clone()));
        for _ in 0..self.settings.now().slots_per_upstream {
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
            Some(_) => H1Connection::open(&epoch.endpoint).await.ok(),
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

    /// Warms models that were asked for since the barrier opened; it stays open for the others meanwhile.
    pub(super) async fn warm_new_models(&mut self) -> Option<Event> {
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
}
