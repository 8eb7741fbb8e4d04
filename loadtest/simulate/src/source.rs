//! Who sends, and when.

use rand::Rng;
use rand::rngs::SmallRng;
use sluice_batch_policy::Flow;

use crate::model::ModelId;

/// Number of a source, in the order in which sources were added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceId(pub usize);

/// A sender of requests for one model.
pub struct Source {
    /// Model that the requests are for.
    pub model: ModelId,
    /// Class, tenant and weight of the requests.
    pub flow: Flow,
    /// Rows of each request.
    pub rows: u32,
    /// Requests that arrive together.
    pub burst: u32,
    /// Requests (bursts, where several arrive together) per second at an instant, in seconds. `None`: only
    /// [`Simulation::arrive`](crate::Simulation::arrive) sends.
    pub per_second: Option<Box<dyn Fn(f64) -> f64>>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("model", &self.model).field("flow", &self.flow).finish_non_exhaustive()
    }
}

impl Source {
    /// Creates a source that sends only when [`Simulation::arrive`](crate::Simulation::arrive) is called.
    pub fn manual(model: ModelId) -> Self {
        let flow = Flow { class: 1, tenant: 0, weight: 1 };
        Self { model, flow, rows: 1, burst: 1, per_second: None }
    }

    /// Creates a source of single rows at random times, `per_second` on average.
    pub fn poisson(model: ModelId, per_second: f64) -> Self {
        Self { per_second: Some(Box::new(move |_| per_second)), ..Self::manual(model) }
    }

    /// Creates the same source with requests of this class, tenant and weight.
    #[must_use]
    pub fn of(self, flow: Flow) -> Self {
        Self { flow, ..self }
    }

    /// Returns when the next requests arrive after an arrival at `at_us`; `None` where none does.
    pub(crate) fn next_us(&self, at_us: f64, random: &mut SmallRng) -> Option<f64> {
        let per_second = self.per_second.as_ref()?(at_us / 1e6);
        let gap = -(1.0 - random.random::<f64>()).ln() / per_second;
        Some(at_us + gap * 1e6)
    }
}
