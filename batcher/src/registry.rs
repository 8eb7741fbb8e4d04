//! Model → queue handle. Request tasks look handles up and clone them out at once; new models are announced to
//! the upstreams' monitors, which warm them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dashmap::DashMap;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::labels::{Labels, MAX_NAME_BYTES};
use crate::observe::orca::Load;
use crate::queue::handle::Event;
use crate::queue::{ModelHandle, owner};
use crate::settings::Live;

/// The models that have a queue.
pub type Models = Arc<Vec<Arc<ModelHandle>>>;

/// Why a model gets no queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoQueue {
    /// There are too many models already.
    #[error("the model is not known, and maxModels is reached")]
    TooMany,
    /// Its name is too long to ask a model server for it.
    #[error("the model's name has {0} bytes; at most {MAX_NAME_BYTES} are taken")]
    NameTooLong(usize),
}

/// All queues.
#[derive(Debug)]
pub struct Registry {
    handles: DashMap<Arc<str>, Arc<ModelHandle>>,
    models: watch::Sender<Models>,
    labels: Mutex<Labels>,
    /// Model servers that there are, ready or not.
    members: AtomicUsize,
    settings: Live,
    clock: Clock,
}

impl Registry {
    /// With a queue for each model that the settings name.
    pub fn new(settings: Live, clock: Clock) -> Self {
        let registry = Self {
            handles: DashMap::new(),
            models: watch::Sender::default(),
            labels: Mutex::new(Labels::new(settings.now().max_models)),
            members: AtomicUsize::new(0),
            settings,
            clock,
        };
        registry.add_named();
        registry
    }

    /// A queue for each model that the settings name and that has none.
    pub fn add_named(&self) {
        for model in &self.settings.now().models {
            self.add(model);
        }
    }

    /// The queue of a model; made at its first request.
    ///
    /// # Errors
    /// See [`NoQueue`].
    pub fn get_or_add(&self, model: &str) -> Result<Arc<ModelHandle>, NoQueue> {
        if let Some(handle) = self.handles.get(model) {
            return Ok(Arc::clone(&handle));
        }
        if model.len() > MAX_NAME_BYTES {
            return Err(NoQueue::NameTooLong(model.len()));
        }
        if self.handles.len() >= self.settings.now().max_models {
            return Err(NoQueue::TooMany);
        }
        Ok(self.add(model))
    }

    /// The queue of a model that has one.
    pub fn get(&self, model: &str) -> Option<Arc<ModelHandle>> {
        self.handles.get(model).map(|handle| Arc::clone(&handle))
    }

    /// All models, now and whenever there is another one.
    pub fn subscribe(&self) -> watch::Receiver<Models> {
        self.models.subscribe()
    }

    /// All models now.
    pub fn all(&self) -> Models {
        self.models.borrow().clone()
    }

    /// There are so many model servers, ready or not: as long as not all have said that they lack a model, its requests
    /// are not for those that do.
    pub fn set_members(&self, members: usize) {
        // Stored first: a queue that is made meanwhile reads it.
        self.members.store(members, Ordering::SeqCst);
        self.all().iter().for_each(|handle| handle.tell(Event::Members(members)));
    }

    /// The load of all models together.
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

    /// Forgets models that all of the `ready` model servers say they do not have, unless the settings name them:
    /// names come from clients.
    pub fn forget_absent(&self, ready: usize) {
        for handle in self.all().iter() {
            let named = self.settings.now().models.iter().any(|model| **model == *handle.model);
            let absent_at = handle.absent_at();
            if absent_at > 0 && absent_at >= ready && !named && handle.queued_rows() == 0 {
                self.handles.remove(&handle.model);
                self.models.send_modify(|models| {
                    *models = Arc::new(
                        models.iter().filter(|other| !Arc::ptr_eq(other, handle)).cloned().collect(),
                    );
                });
                handle.tell(Event::Retire);
            }
        }
    }

    /// The label of a model's series, for one that may have no queue.
    pub fn label(&self, model: &str) -> Arc<str> {
        // A set is never left half-changed by a panic.
        self.labels.lock().unwrap_or_else(PoisonError::into_inner).of(&Arc::from(model))
    }

    fn add(&self, model: &str) -> Arc<ModelHandle> {
        let name: Arc<str> = Arc::from(model);
        let mut added = None;
        let label = self.label(model);
        // The entry's lock makes one queue of two first requests; nothing else is locked or awaited under it.
        let handle = Arc::clone(&self.handles.entry(Arc::clone(&name)).or_insert_with(|| {
            let handle = Arc::new(ModelHandle::new(name, &label, self.settings.clone(), self.clock));
            added = Some(Arc::clone(&handle));
            handle
        }));
        if let Some(added) = added {
            tokio::spawn(owner::run(Arc::clone(&added)));
            let tell = || added.tell(Event::Members(self.members.load(Ordering::SeqCst)));
            // Before any model server hears of it, and warms it.
            tell();
            self.models.send_modify(|models| {
                *models = Arc::new(models.iter().cloned().chain([Arc::clone(&added)]).collect());
            });
            // Their number may have changed before this queue was among all.
            tell();
        }
        handle
    }
}
