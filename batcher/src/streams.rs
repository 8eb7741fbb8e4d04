//! Streams: requests that a model server batches by itself, step by step, such as LLM completions and `generate`. The
//! batcher never merges them. It admits as many at a time as a learned limit allows, lets the others wait in order, and
//! measures all of them.
//!
//! | module | what is there |
//! |---|---|
//! | [`asked`] | pure: reads model and tokens from a request's body |
//! | [`events`] | pure: counts server-sent events in an answer, and reads the usage that they report |
//! | `owner` | the task that owns the admission of one model |
//! | [`handle`] | how all other tasks use the admission |
//! | [`record`] | measures one request from arrival to end |
//! | [`metrics`] | the series of one model |

pub mod asked;
pub mod events;
pub mod handle;
pub mod metrics;
mod owner;
pub mod record;

use std::sync::Arc;

use dashmap::{DashMap, Entry};

use crate::clock::Clock;
use crate::labels::OTHER;
use crate::registry::Registry;
use crate::settings::Live;
use crate::upstream::members::Upstreams;

pub use handle::{AdmissionDecision, Permit, StreamHandle};
pub use record::Record;

/// Time without requests after which an admission may be replaced by that of another model, in microseconds.
const IDLE_US: u64 = 300_000_000;

/// The stream admissions, one per value of the label `model`, whose number is limited. Models that no model server has
/// confirmed share one, [`OTHER`], with those that came when there was no label left.
#[derive(Debug)]
pub struct Streams {
    gates: DashMap<Arc<str>, Arc<StreamHandle>>,
    registry: Arc<Registry>,
    upstreams: Arc<Upstreams>,
    settings: Live,
    clock: Clock,
}

impl Streams {
    /// Creates an empty set; admissions are created at a model's first stream.
    pub fn new(registry: Arc<Registry>, upstreams: Arc<Upstreams>, settings: Live, clock: Clock) -> Self {
        Self { gates: DashMap::new(), registry, upstreams, settings, clock }
    }

    /// Returns the admission of a model; `None` if the model has no streams yet and is not known to exist.
    pub fn known(&self, model: &str) -> Option<Arc<StreamHandle>> {
        if let Some(known) = self.gates.get(model) {
            return Some(Arc::clone(&known));
        }
        let exists = self.registry.is_named(model) || self.registry.get(model).is_some();
        exists.then(|| self.confirmed(model))
    }

    /// Returns the admission of a model that a model server has confirmed.
    pub fn confirmed(&self, model: &str) -> Arc<StreamHandle> {
        self.make_room();
        // The entry's lock makes sure that two first requests create one admission; nothing is awaited under it.
        let gate = match self.gates.entry(Arc::from(model)) {
            Entry::Occupied(known) => return Arc::clone(known.get()),
            Entry::Vacant(free) => {
                let label = self.registry.take_label(model);
                if *label != *model { None } else { Some(Arc::clone(&free.insert(self.start(label)))) }
            }
        };
        gate.unwrap_or_else(|| self.other())
    }

    /// Returns the admission that all other models share.
    pub fn other(&self) -> Arc<StreamHandle> {
        Arc::clone(&self.gates.entry(Arc::from(OTHER)).or_insert_with(|| self.start(Arc::from(OTHER))))
    }

    fn start(&self, label: Arc<str>) -> Arc<StreamHandle> {
        owner::start(label, Arc::clone(&self.upstreams), self.settings.clone(), self.clock)
    }

    /// If `maxModels` is reached, ends the admission that has been idle longest, provided that this is long enough.
    /// Keeps those of models that the settings name.
    fn make_room(&self) {
        if self.gates.len() < self.settings.now().models.max_models {
            return;
        }
        let now_us = self.clock.now_us();
        let idle = self.all().into_iter().filter(|gate| {
            gate.idle_us(now_us).is_some_and(|idle_us| idle_us >= IDLE_US)
                && *gate.label != *OTHER
                && !self.registry.is_named(&gate.label)
        });
        let Some(oldest) = idle.max_by_key(|gate| gate.idle_us(now_us)) else { return };
        if self.gates.remove(&oldest.label).is_some() {
            self.registry.free_label(&oldest.label);
            oldest.retire();
        }
    }

    /// Sets all gauges.
    pub async fn refresh(&self) {
        for gate in self.all() {
            let has_queue = self.registry.get(&gate.label).is_some();
            gate.refresh(has_queue).await;
        }
    }

    /// Ends all admissions, because the process ends: requests that wait get an error.
    pub fn retire(&self) {
        self.all().iter().for_each(|gate| gate.retire());
    }

    fn all(&self) -> Vec<Arc<StreamHandle>> {
        self.gates.iter().map(|gate| Arc::clone(&gate)).collect()
    }
}
