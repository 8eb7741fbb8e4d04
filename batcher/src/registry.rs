//! The models and the handles of their queues. Request tasks look up a handle and clone it; new models are announced to
//! the upstreams' monitors, which warm them. A model is registered only if the settings name it or a model server has
//! confirmed that it has it, because clients may send any name.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dashmap::DashMap;
use sluice_process::metrics::Metrics;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::labels::Labels;
use crate::observe::orca::Load;
use crate::queue::{Message, QueueEvent};
use crate::queue::{ModelHandle, owner};
use crate::settings::Live;
use crate::upstream::models::ServedModels;

/// Name of the label that contains the model.
const LABEL: &str = "model";

/// The handles of all models that have a queue.
pub type Models = Arc<Vec<Arc<ModelHandle>>>;

/// Error: `maxModels` is reached, and no model can be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("maxModels is reached")]
pub struct TooMany;

/// Registry of all models that have a queue.
#[derive(Debug)]
pub struct Registry {
    handles: DashMap<Arc<str>, Arc<ModelHandle>>,
    models: watch::Sender<Models>,
    labels: Mutex<Labels>,
    /// Number of model servers, ready or not.
    members: AtomicUsize,
    series: Metrics,
    settings: Live,
    clock: Clock,
}

impl Registry {
    /// Creates a registry with a queue for each model that the settings name.
    pub fn new(settings: Live, clock: Clock, series: Metrics) -> Self {
        let registry = Self {
            handles: DashMap::new(),
            models: watch::Sender::default(),
            labels: Mutex::new(Labels::new(settings.now().models.max_models)),
            members: AtomicUsize::new(0),
            series,
            settings,
            clock,
        };
        registry.add_named();
        registry
    }

    /// Adds a queue for each model that the settings name and that has none.
    pub fn add_named(&self) {
        for model in &self.settings.now().models.models {
            self.add(model);
        }
    }

    /// Returns the queue of a model that a model server has confirmed; creates it at the first request.
    ///
    /// # Errors
    /// Fails if there are `maxModels` already and none of them can be forgotten.
    pub fn confirmed(&self, model: &str) -> Result<Arc<ModelHandle>, TooMany> {
        if let Some(handle) = self.get(model) {
            return Ok(handle);
        }
        if self.handles.len() >= self.settings.now().models.max_models && !self.make_room() {
            return Err(TooMany);
        }
        let handle = self.add(model);
        handle.ask();
        Ok(handle)
    }

    /// Returns whether the settings name the model.
    pub fn is_named(&self, model: &str) -> bool {
        self.settings.now().models.models.iter().any(|name| name == model)
    }

    /// Wakes the monitors, so that they check which models are asked for.
    pub fn look(&self) {
        self.models.send_modify(|_| ());
    }

    /// Forgets one model: of those that are warm nowhere, have no waiting rows and are not named by the settings, the
    /// one whose last request is oldest. Returns false if no model may be forgotten.
    fn make_room(&self) -> bool {
        let all = self.all();
        let idle = all
            .iter()
            .filter(|handle| handle.is_cold() && handle.queued_rows() == 0 && !self.is_named(&handle.model));
        let oldest = idle.min_by_key(|handle| handle.asked_us());
        oldest.inspect(|handle| self.forget(handle)).is_some()
    }

    /// Returns the queue of a model, if it has one.
    pub fn get(&self, model: &str) -> Option<Arc<ModelHandle>> {
        self.handles.get(model).map(|handle| Arc::clone(&handle))
    }

    /// Returns all models that have a queue now.
    pub fn all(&self) -> Models {
        self.models.borrow().clone()
    }

    /// Returns the load of all models together.
    pub fn load(&self) -> Load {
        self.all().iter().map(|handle| handle.load()).fold(Load::default(), |sum, load| Load {
            // Models share their model servers: the slots are the same ones, as a rule.
            slots: sum.slots.max(load.slots),
            busy_slots: sum.busy_slots + load.busy_slots,
            queued_rows: sum.queued_rows + load.queued_rows,
            queued_batches: sum.queued_batches + load.queued_batches,
            predicted_wait_seconds: sum.predicted_wait_seconds.max(load.predicted_wait_seconds),
        })
    }

    fn forget(&self, handle: &Arc<ModelHandle>) {
        self.handles.remove(&handle.model);
        self.models.send_modify(|models| {
            *models = Arc::new(models.iter().filter(|other| !Arc::ptr_eq(other, handle)).cloned().collect());
        });
        self.free_label(&handle.metrics.label);
        handle.tell(Message::Retire);
    }

    /// Adds a user of a model's series and returns their label.
    pub fn take_label(&self, model: &str) -> Arc<str> {
        // A panic never leaves the set half-changed.
        let mut labels = self.labels.lock().unwrap_or_else(PoisonError::into_inner);
        let label = labels.take(&Arc::from(model), self.is_named(model));
        self.series.take_in(LABEL, &label);
        label
    }

    /// Removes a user of a label; the series end with the last one.
    pub fn free_label(&self, label: &str) {
        let mut labels = self.labels.lock().unwrap_or_else(PoisonError::into_inner);
        if labels.free(label) {
            self.series.leave_out(LABEL, label);
        }
    }

    fn add(&self, model: &str) -> Arc<ModelHandle> {
        let name: Arc<str> = Arc::from(model);
        let mut added = None;
        // The entry's lock makes sure that two first requests create one queue; nothing is awaited under it.
        let handle = Arc::clone(&self.handles.entry(Arc::clone(&name)).or_insert_with(|| {
            let label = self.take_label(model);
            let handle = Arc::new(ModelHandle::new(name, &label, self.settings.clone(), self.clock));
            added = Some(Arc::clone(&handle));
            handle
        }));
        if let Some(added) = added {
            tokio::spawn(owner::run(Arc::clone(&added)));
            let tell = || added.tell(QueueEvent::Members(self.members.load(Ordering::SeqCst)));
            // Before any monitor learns of the model and warms it.
            tell();
            self.models.send_modify(|models| {
                *models = Arc::new(models.iter().cloned().chain([Arc::clone(&added)]).collect());
            });
            // Again, because the number may have changed before the queue was in the list.
            tell();
        }
        handle
    }
}

impl ServedModels for Registry {
    type Model = ModelHandle;

    fn subscribe(&self) -> watch::Receiver<Models> {
        self.models.subscribe()
    }

    /// Stores the number and passes it to all queues: a queue does not send requests to servers that lack the model
    /// until all servers have said so.
    fn set_members(&self, members: usize) {
        // Stored first: a queue that is created meanwhile reads it.
        self.members.store(members, Ordering::SeqCst);
        self.all().iter().for_each(|handle| handle.tell(QueueEvent::Members(members)));
    }

    /// Keeps models that the settings name, and those with waiting rows. A model is kept as long as one model server
    /// has not said that it lacks it, because that one may have it.
    fn forget_absent(&self, members: usize) {
        for handle in self.all().iter() {
            let absent_at = handle.absent_at();
            let is_absent = absent_at > 0 && absent_at >= members && handle.queued_rows() == 0;
            if is_absent && !self.is_named(&handle.model) {
                self.forget(handle);
            }
        }
    }
}
