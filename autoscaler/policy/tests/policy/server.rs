//! Simulated batching servers behind one queue: the batcher's own, in virtual time. The model is measured against them.
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sluice_scaling_policy::Curve;
use sluice_simulate::{ModelId, ModelSpec, ServerId, ServerSpec, Simulation, Source, SourceId};

/// No objective keeps batches small, and no row is late: an hour, microseconds.
const OBJECTIVE_US: u64 = 3_600_000_000;

/// Most rows that wait, far more than can be served within any objective: hopeless runs end sooner with a bound.
const QUEUE_ROWS: usize = 10_000;

/// Simulated replicas, and rows that wait for them.
pub(crate) struct Servers {
    simulation: Simulation,
    model: ModelId,
    source: SourceId,
    /// Replicas that are not leaving.
    replicas: Vec<ServerId>,
    /// Arrival and latency of each row that is answered, milliseconds.
    pub(crate) latencies: Vec<(f64, f64)>,
}

/// Replicas take exactly as long as the curve says.
const EXACT: ServerSpec = ServerSpec { speed: 1.0, noise: 0.0 };

impl Servers {
    pub(crate) fn new(curve: Curve, replicas: usize) -> Self {
        let mut simulation = Simulation::new(0);
        let Curve { alpha_ms, beta_ms, batch_rows_limit, .. } = curve;
        let spec = ModelSpec {
            deadline_us: None,
            admits: false,
            learns: false,
            queue_requests: QUEUE_ROWS,
            ..ModelSpec::new(alpha_ms / 1000.0, beta_ms / 1000.0, batch_rows_limit, OBJECTIVE_US)
        };
        let model = simulation.add_model(spec);
        let source = simulation.add_source(Source::manual(model));
        let replicas = (0..replicas).map(|_| simulation.add_server(EXACT, 0)).collect();
        Self { simulation, model, source, replicas, latencies: Vec::new() }
    }

    /// A row arrives at `at` ms; all that happens before happens first.
    pub(crate) fn arrive(&mut self, at: f64) {
        self.advance(at);
        self.simulation.arrive(self.source);
    }

    /// Lets time pass until `until` ms.
    pub(crate) fn advance(&mut self, until: f64) {
        self.simulation.run_until(us(until));
        let answers = &self.simulation.outcome(self.source).answers[self.latencies.len()..];
        self.latencies.extend(answers.iter().map(|answer| (ms(answer.arrived_us), ms(answer.latency_us))));
    }

    /// Starts replicas, which are ready after `startup_ms`, or has the last ones finish their batches and leave.
    pub(crate) fn scale(&mut self, replicas: u32, startup_ms: f64) {
        while self.replicas.len() < replicas as usize {
            self.replicas.push(self.simulation.add_server(EXACT, us(startup_ms)));
        }
        for leaving in self.replicas.drain(replicas as usize..).rev() {
            self.simulation.remove_server(leaving);
        }
    }

    /// Returns the time for which replicas were there, those that start or leave included, milliseconds.
    pub(crate) fn replica_ms(&self) -> f64 {
        ms(self.simulation.server_us())
    }

    pub(crate) fn ready(&self) -> u32 {
        u32::try_from(self.simulation.ready()).unwrap()
    }

    /// Returns how many rows found the queue full.
    pub(crate) fn rejected(&self) -> usize {
        let outcome = self.simulation.outcome(self.source);
        usize::try_from(outcome.sent - outcome.admitted).unwrap()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.simulation.waiting(self.model)
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some hours")]
fn us(ms: f64) -> u64 {
    (ms * 1000.0) as u64
}

#[expect(clippy::cast_precision_loss, reason = "some hours")]
fn ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

/// Seeded randomness.
pub(crate) fn rng(seed: u64) -> SmallRng {
    SmallRng::seed_from_u64(seed)
}

/// Exponential with the given mean.
pub(crate) fn exponential(rng: &mut SmallRng, mean: f64) -> f64 {
    let uniform: f64 = rng.random();
    -mean * (1.0 - uniform).ln()
}

pub(crate) fn quantile(values: &mut [f64], quantile: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index"
    )]
    let index = (quantile * values.len() as f64) as usize;
    values[index.min(values.len() - 1)]
}
