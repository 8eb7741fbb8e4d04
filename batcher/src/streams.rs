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

use dashmap::DashMap;

use crate::clock::Clock;
use crate::registry::Registry;
use crate::settings::Live;
use crate::upstream::members::Upstreams;

pub use handle::{Permit, StreamHandle, Verdict};
pub use record::Record;

/// The gates, one per value of the label `model`: their number is bounded as that of the labels is.
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

    /// The gate of a model. Models beyond `maxModels` share one.
    pub fn of(&self, model: &str) -> Arc<StreamHandle> {
        if let Some(known) = self.gates.get(model) {
            return Arc::clone(&known);
        }
        let label = self.registry.label(model);
        // The entry's lock makes one gate of two first requests; nothing else is locked or awaited under it.
        let gate = self.gates.entry(Arc::clone(&label)).or_insert_with(|| {
            owner::start(label, Arc::clone(&self.upstreams), self.settings.clone(), self.clock)
        });
        Arc::clone(&gate)
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
