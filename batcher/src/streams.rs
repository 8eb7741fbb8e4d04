//! Requests that a model server batches by itself, step by step: LLM servers' completions, and `generate`. They are never
//! merged here, but let in by a learned limit; those above it wait in order, and are measured on their way.
//!
//! | module | what is there |
//! |---|---|
//! | [`asked`] | pure: what a request's body says: model, tokens |
//! | [`events`] | pure: server-sent events in an answer, counted, with the usage that they tell |
//! | `owner` | the task that owns the gate of one model |
//! | [`handle`] | what everybody else knows of it |
//! | [`record`] | one request from arrival to end, and what is measured of it |
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

/// How long a gate must have been without requests until its place may be given to another model, microseconds.
const IDLE_US: u64 = 300_000_000;

/// The gates, one per value of the label `model`: their number is bounded as that of the labels is. Models that no model
/// server has confirmed share one, [`OTHER`], with those that came when there was no label left.
#[derive(Debug)]
pub struct Streams {
    gates: DashMap<Arc<str>, Arc<StreamHandle>>,
    registry: Arc<Registry>,
    upstreams: Arc<Upstreams>,
    settings: Live,
    clock: Clock,
}

impl Streams {
    /// No gates yet: they are made at a model's first stream.
    pub fn new(registry: Arc<Registry>, upstreams: Arc<Upstreams>, settings: Live, clock: Clock) -> Self {
        Self { gates: DashMap::new(), registry, upstreams, settings, clock }
    }

    /// The gate of a model that has one, or is known to exist.
    pub fn known(&self, model: &str) -> Option<Arc<StreamHandle>> {
        if let Some(known) = self.gates.get(model) {
            return Some(Arc::clone(&known));
        }
        let exists = self.registry.is_named(model) || self.registry.get(model).is_some();
        exists.then(|| self.confirmed(model))
    }

    /// The gate of a model that a model server has confirmed.
    pub fn confirmed(&self, model: &str) -> Arc<StreamHandle> {
        self.make_room();
        // The entry's lock makes one gate of two first requests; nothing is awaited under it.
        let gate = match self.gates.entry(Arc::from(model)) {
            Entry::Occupied(known) => return Arc::clone(known.get()),
            Entry::Vacant(free) => {
                let label = self.registry.take_label(model);
                if *label != *model { None } else { Some(Arc::clone(&free.insert(self.start(label)))) }
            }
        };
        gate.unwrap_or_else(|| self.other())
    }

    /// The gate that all others share.
    pub fn other(&self) -> Arc<StreamHandle> {
        Arc::clone(&self.gates.entry(Arc::from(OTHER)).or_insert_with(|| self.start(Arc::from(OTHER))))
    }

    fn start(&self, label: Arc<str>) -> Arc<StreamHandle> {
        owner::start(label, Arc::clone(&self.upstreams), self.settings.clone(), self.clock)
    }

    /// Where there are as many gates as there may be, the one that was used longest ago ends, if that is long ago.
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

    /// The process ends: what waits is answered with an error.
    pub fn retire(&self) {
        self.all().iter().for_each(|gate| gate.retire());
    }

    fn all(&self) -> Vec<Arc<StreamHandle>> {
        self.gates.iter().map(|gate| Arc::clone(&gate)).collect()
    }
}
