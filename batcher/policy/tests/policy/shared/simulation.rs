//! A discrete-event simulation of models that share the slots of one model server: virtual time, seeded. Poisson
//! arrivals of one row at each model, batches of L(b) with noise, admission by the curve. As in the batcher, a model
//! says what it wants a slot for when it begins to wait for one, and not again while it waits.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sluice_batch_policy::{
    Admission, AdmitView, BatchLimits, BatchSizes, Lane, NextBatch, ServiceCurve, Size, SlotShare, Ticket,
    WaitQueue, admit,
};

const CURVE: ServiceCurve =
    ServiceCurve { alpha_seconds: 0.020, beta_seconds: 0.001, residual_p95_ratio: 0.08, samples: 100 };
const CAP_ROWS: u32 = 64;
const WARM_UP_US: u64 = 2_000_000;
const SECONDS: u64 = 20;

/// Who sends what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Model {
    /// In parts of the most that all slots could do if they were this model's alone.
    pub(crate) load: f64,
    pub(crate) weight: u32,
    pub(crate) objective_us: u64,
    /// How many times as fast as 20 ms + 1 ms·b.
    pub(crate) speed: f64,
}

impl Model {
    pub(crate) fn at(load: f64) -> Self {
        Self { load, weight: 1, objective_us: 300_000, speed: 1.0 }
    }

    fn lane(&self) -> Lane {
        let (alpha_seconds, beta_seconds) =
            (CURVE.alpha_seconds / self.speed, CURVE.beta_seconds / self.speed);
        Lane { limit_rows: CAP_ROWS, curve: Some(ServiceCurve { alpha_seconds, beta_seconds, ..CURVE }) }
    }
}

/// How slots are shared, and what admission knows of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    Turns,
    /// As if every batch were needed at once: fair queueing of slot time and nothing else.
    TimeAlone,
    /// In turns, but admission takes all slots for the model's own.
    TurnsUnforeseen,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    pub(crate) sent: u64,
    /// Those that are still on their way at the end belong to neither side.
    pub(crate) admitted: u64,
    /// Answered within the objective.
    pub(crate) met: u64,
    pub(crate) batches: u64,
    answered: u64,
    /// Predicted less real finish of all that were answered, together.
    early_us: i64,
}

impl Outcome {
    /// Part of what was admitted.
    pub(crate) fn kept(&self) -> f64 {
        self.met as f64 / self.admitted.max(1) as f64
    }

    /// Part of all that was sent.
    pub(crate) fn attainment(&self) -> f64 {
        self.met as f64 / self.sent.max(1) as f64
    }

    /// How much earlier than predicted answers came, on average; negative: later.
    pub(crate) fn early_ms(&self) -> f64 {
        self.early_us as f64 / 1e3 / self.answered.max(1) as f64
    }
}

/// Of all models together.
pub(crate) fn goodput(outcomes: &[Outcome]) -> f64 {
    let sum = |part: fn(&Outcome) -> u64| outcomes.iter().map(part).sum::<u64>() as f64;
    sum(|outcome| outcome.met) / sum(|outcome| outcome.sent)
}

struct Running {
    model: usize,
    started_us: u64,
    ends_us: u64,
    expected_end_us: u64,
    charged_us: u64,
    /// Arrival and predicted finish.
    requests: Vec<(u64, u64)>,
}

struct Simulation<'a> {
    models: &'a [Model],
    sharing: Sharing,
    random: SmallRng,
    share: SlotShare<usize>,
    /// With the predicted finish of each request.
    queues: Vec<WaitQueue<(), u64>>,
    waits: Vec<bool>,
    running: Vec<Running>,
    outcomes: Vec<Outcome>,
}

/// Runs for a while; one outcome for each model.
pub(crate) fn simulate(models: &[Model], slots: u32, sharing: Sharing, seed: u64) -> Vec<Outcome> {
    let mut simulation = Simulation {
        models,
        sharing,
        random: SmallRng::seed_from_u64(seed),
        share: SlotShare::new(slots),
        queues: models.iter().map(|_| WaitQueue::new()).collect(),
        waits: vec![false; models.len()],
        running: Vec::new(),
        outcomes: vec![Outcome::default(); models.len()],
    };
    simulation.run();
    simulation.outcomes
}

fn counted(arrived_us: u64) -> u64 {
    u64::from(arrived_us >= WARM_UP_US)
}

impl Simulation<'_> {
    fn run(&mut self) {
        let slots = f64::from(self.share.slots());
        let most = f64::from(CAP_ROWS) / CURVE.seconds(CAP_ROWS) * slots;
        let rates: Vec<f64> = self.models.iter().map(|model| model.load * model.speed * most).collect();
        let rate: f64 = rates.iter().sum();
        let mut next_arrival_us = 0.0f64;
        while next_arrival_us < (WARM_UP_US + SECONDS * 1_000_000) as f64 {
            let arrival_us = next_arrival_us as u64;
            let first = (0..self.running.len()).min_by_key(|&index| self.running[index].ends_us);
            let now_us = match first.filter(|&index| self.running[index].ends_us <= arrival_us) {
                Some(index) => {
                    let batch = self.running.swap_remove(index);
                    self.finish(&batch);
                    batch.ends_us
                }
                None => {
                    next_arrival_us += -(1.0 - self.random.random::<f64>()).ln() / rate * 1e6;
                    let mut at = self.random.random_range(0.0..rate);
                    let model = rates.iter().position(|rate| {
                        at -= rate;
                        at < 0.0
                    });
                    self.arrive(model.unwrap_or(0), arrival_us);
                    arrival_us
                }
            };
            while let Some((model, charged_us)) = self.share.grant(now_us) {
                self.waits[model] = false;
                self.cut(model, charged_us, now_us);
            }
        }
        for (model, queue) in self.queues.iter_mut().enumerate() {
            let queued = queue.drain().into_iter().map(|(_, waiting)| counted(waiting.arrived_us));
            let own = self.running.iter().filter(|batch| batch.model == model);
            let flying = own.flat_map(|batch| &batch.requests).map(|&(arrived_us, _)| counted(arrived_us));
            let left: u64 = queued.chain(flying).sum();
            self.outcomes[model].admitted -= left;
            self.outcomes[model].sent -= left;
        }
    }

    fn want(&mut self, model: usize) {
        let queue = &self.queues[model];
        let next =
            NextBatch::of_queue(queue.rows(), queue.earliest_deadline_us(), &self.models[model].lane());
        let start_by_us = if self.sharing == Sharing::TimeAlone { 0 } else { next.start_by_us };
        self.share.want(model, self.models[model].weight, NextBatch { start_by_us, ..next });
        self.waits[model] = true;
    }

    fn finish(&mut self, batch: &Running) {
        if !self.queues[batch.model].is_empty() {
            self.want(batch.model);
        }
        self.share.give_back(batch.model, batch.charged_us, batch.ends_us - batch.started_us);
        let outcome = &mut self.outcomes[batch.model];
        outcome.batches += counted(batch.started_us);
        for &(arrived_us, predicted_us) in
            batch.requests.iter().filter(|(arrived_us, _)| counted(*arrived_us) > 0)
        {
            outcome.met += u64::from(batch.ends_us - arrived_us <= self.models[batch.model].objective_us);
            outcome.answered += 1;
            outcome.early_us += predicted_us as i64 - batch.ends_us as i64;
        }
    }

    fn arrive(&mut self, model: usize, now_us: u64) {
        let deadline_us = now_us + self.models[model].objective_us;
        self.outcomes[model].sent += counted(now_us);
        let free_in_us = self.running.iter().map(|batch| batch.expected_end_us.saturating_sub(now_us)).min();
        let slots = self.share.slots();
        let (turn_us, share) = match self.sharing {
            Sharing::TurnsUnforeseen => (0, 1.0),
            _ => (self.share.before_turn_of_us(model) / u64::from(slots), self.share.part_of(model)),
        };
        let view = AdmitView {
            now_us,
            deadline_us,
            rows: 1,
            rows_ahead: self.queues[model].rows(),
            slots,
            free_slots: self.share.free(),
            slot_free_in_us: free_in_us.unwrap_or(0) + turn_us,
            limit_rows: CAP_ROWS,
            rows_per_second: 0.0,
            share,
        };
        let admission = admit(&view, self.models[model].lane().curve.as_ref());
        if let Admission::Admit { predicted_finish_us } = admission {
            self.outcomes[model].admitted += counted(now_us);
            let size = Size::of_rows(1);
            let ticket = Ticket { class: 1, tenant: 0, weight: 1, deadline_us, size, arrived_us: now_us };
            self.queues[model].push((), ticket, predicted_finish_us.unwrap_or(now_us));
            if !self.waits[model] {
                self.want(model);
            }
        }
    }

    fn cut(&mut self, model: usize, charged_us: u64, now_us: u64) {
        let (lane, sizes) = (self.models[model].lane(), BatchSizes::up_to(CAP_ROWS));
        let batch = self.queues[model].cut(now_us, |()| lane, &BatchLimits::of_sizes(&sizes), |_| false);
        if batch.take.is_empty() {
            self.share.give_back(model, charged_us, 0);
            return;
        }
        if !self.queues[model].is_empty() {
            self.want(model);
        }
        let Some(curve) = lane.curve else { return };
        let noise: f64 = (0..4).map(|_| self.random.random_range(-0.0433..0.0433)).sum();
        let rows = batch.take.len() as u32;
        self.running.push(Running {
            model,
            started_us: now_us,
            ends_us: now_us + (curve.seconds(rows) * (1.0 + noise) * 1e6) as u64,
            expected_end_us: now_us + curve.p95_us(rows),
            charged_us,
            requests: batch.take.iter().map(|waiting| (waiting.arrived_us, waiting.payload)).collect(),
        });
    }
}
