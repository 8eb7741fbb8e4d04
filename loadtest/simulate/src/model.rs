//! Simulated models: what is set for their queues, and how long a batch really takes.

use std::collections::{HashMap, VecDeque};

use sluice_batch_policy::{
    Admission, Backlog, BatchSizes, Engine, EngineSettings, Flow, Forecast, Request, SequenceLimits,
};

use crate::request::SimulatedRequest;
use crate::server::{InFlight, ServerId, SimulatedSlot};

/// Number of a model, in the order in which models were added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModelId(pub usize);

/// A model and its queue.
#[derive(Debug, Clone)]
pub struct ModelSpec {
    /// Settings of its queue.
    pub settings: EngineSettings,
    /// Fixed time of a batch, seconds. The engine does not know it: it learns.
    pub alpha_seconds: f64,
    /// Time per row, seconds.
    pub beta_seconds: f64,
    /// Maximum rows of a batch that model servers take.
    pub max_rows: u32,
    /// Sizes of the warm-up batches that the engine learns from at the start, in this order.
    pub warm_up_rows: Vec<u32>,
    /// Whether the engine learns from the times of batches. Without, it knows no more than the warm-up, and runs are faster.
    pub learns: bool,
    /// Time after its arrival until which a request is to be answered, microseconds; `None`: it may take for ever.
    pub deadline_us: Option<u64>,
    /// Whether requests are rejected on arrival that are predicted to be late.
    pub admits: bool,
    /// Whether admission foresees by the state of the slots at each arrival; otherwise by what the queue published at its
    /// last turn, as the batcher does. A queue is not told of batches of other models.
    pub foresees_live: bool,
    /// Most requests that may wait.
    pub queue_requests: usize,
}

impl ModelSpec {
    /// Creates a model with one slot at each server, of which nothing is known at the start. A batch of b rows, at most
    /// `max_rows`, takes α + β·b; requests are due after `objective_us`.
    pub fn new(alpha_seconds: f64, beta_seconds: f64, max_rows: u32, objective_us: u64) -> Self {
        Self {
            settings: EngineSettings {
                objective_us,
                hold_us: 120_000_000,
                sizes: BatchSizes::up_to(max_rows),
                bytes: u64::MAX,
                tokens: u64::MAX,
                defers: false,
                sequences: SequenceLimits { most: 0, idle_us: 0 },
                slots_per_server: 1,
                slot_weight: 1,
            },
            alpha_seconds,
            beta_seconds,
            max_rows,
            warm_up_rows: Vec::new(),
            learns: true,
            deadline_us: Some(objective_us),
            admits: true,
            foresees_live: false,
            queue_requests: 4096,
        }
    }

    /// Creates the same model, warmed with batches of all sizes, largest first.
    #[must_use]
    pub fn warmed(self) -> Self {
        Self { warm_up_rows: (1..=self.max_rows).rev().collect(), ..self }
    }

    /// Returns the real time of a batch on a server of speed 1, seconds.
    pub fn batch_seconds(&self, rows: u32) -> f64 {
        self.alpha_seconds + self.beta_seconds * f64::from(rows)
    }

    /// Returns the rows per second of one slot at full batches: the most that it can do.
    pub fn most_rows_per_second(&self) -> f64 {
        f64::from(self.max_rows) / self.batch_seconds(self.max_rows)
    }
}

/// A batch under way.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) slot: SimulatedSlot,
    pub(crate) inflight: InFlight,
    pub(crate) started_us: u64,
    /// Rows on the wire.
    pub(crate) sent_rows: u32,
    pub(crate) requests: Vec<SimulatedRequest>,
}

impl Running {
    pub(crate) fn server(&self) -> ServerId {
        self.slot.server
    }
}

/// The queue of one model.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) spec: ModelSpec,
    pub(crate) engine: Engine<SimulatedRequest, SimulatedSlot>,
    pub(crate) forecast: Forecast,
    backlog: Backlog,
    /// Requests that have arrived and that the engine has not taken in yet.
    pub(crate) arrived: VecDeque<SimulatedRequest>,
    /// Requests that wait, those that have arrived included.
    pub(crate) waiting: usize,
    pub(crate) running: HashMap<u64, Running>,
    /// When the engine wants its next turn.
    pub(crate) turn_us: Option<u64>,
}

impl Model {
    pub(crate) fn new(spec: ModelSpec, now_us: u64) -> Self {
        Self {
            engine: Engine::new(now_us, spec.settings.clone()),
            spec,
            forecast: Forecast::default(),
            backlog: Backlog::new(),
            arrived: VecDeque::new(),
            waiting: 0,
            running: HashMap::new(),
            turn_us: None,
        }
    }

    /// Decides about a request that arrives, and counts it as waiting where it is taken in. The outer `None`: rejected;
    /// the inner one: nothing is predicted.
    pub(crate) fn admit(
        &mut self,
        now_us: u64,
        deadline_us: u64,
        flow: Flow,
        rows: u32,
    ) -> Option<Option<u64>> {
        if self.waiting >= self.spec.queue_requests {
            return None;
        }
        if self.spec.foresees_live {
            self.forecast = self.engine.forecast(now_us);
        }
        let rows_ahead = self.backlog.rows_ahead(flow, rows);
        let view = self.forecast.view(now_us, deadline_us, rows, rows_ahead);
        let admission = self.forecast.admit(&view, Some(SimulatedRequest::class()));
        if self.spec.admits && matches!(admission, Admission::Reject { .. }) {
            return None;
        }
        self.backlog.enter(flow, rows);
        self.waiting += 1;
        Some(admission.predicted_finish_us())
    }

    /// Notes that a request no longer waits.
    pub(crate) fn left(&mut self, request: &SimulatedRequest) {
        self.backlog.leave(request.flow, request.size().rows);
        self.waiting -= 1;
    }

    /// Notes that requests were sent together.
    pub(crate) fn served(&mut self, batch: &[SimulatedRequest]) {
        batch.iter().for_each(|request| self.left(request));
        self.backlog.served(batch.iter().map(|request| (request.flow, request.rows)));
    }
}
