//! A discrete-event simulation: simulated server with several slots, L(b) = 5 ms + 0.25 ms·b with noise, Poisson
//! arrivals of one row, seeded. Admission, cut and deferral are the policy's; the curve is learned on the way.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sluice_batch_policy::{
    Admission, AdmitView, ArrivalRate, BatchLimits, BatchSizes, CurveEstimator, DeferView, Lane,
    ServiceCurve, Size, Ticket, WaitQueue, admit, batch_limit, defer_until, deferral_pays, deferred_limit,
};

const ALPHA: f64 = 0.005;
const BETA: f64 = 0.000_25;
const CAP_ROWS: u32 = 64;
/// As long as the curve needs; not counted.
const WARM_UP_US: u64 = 1_000_000;
const RATE_WINDOW_US: u64 = 1_000_000;

/// What is simulated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Server {
    pub(crate) slots: u32,
    pub(crate) objective_us: u64,
    pub(crate) defers: bool,
}

/// What became of the requests.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) sent: u64,
    /// Answered within the objective.
    pub(crate) met: u64,
    pub(crate) admitted: u64,
    pub(crate) batches: u64,
    latencies_us: Vec<u64>,
}

impl Outcome {
    /// Part of all that was sent.
    pub(crate) fn attainment(&self) -> f64 {
        self.met as f64 / self.sent.max(1) as f64
    }

    /// Part of what was admitted.
    pub(crate) fn kept(&self) -> f64 {
        self.met as f64 / self.admitted.max(1) as f64
    }

    pub(crate) fn p50_us(&self) -> u64 {
        let mut sorted = self.latencies_us.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }
}

/// Rows per second of all slots at full batches of the cap.
pub(crate) fn hard_maximum(slots: u32) -> f64 {
    f64::from(slots * CAP_ROWS) / (ALPHA + BETA * f64::from(CAP_ROWS))
}

struct Running {
    ends_us: u64,
    started_us: u64,
    arrived_us: Vec<u64>,
}

struct Simulation {
    server: Server,
    random: SmallRng,
    sizes: BatchSizes,
    estimator: CurveEstimator,
    rate: ArrivalRate,
    queue: WaitQueue<(), ()>,
    since_us: u64,
    running: Vec<Running>,
    outcome: Outcome,
}

/// So many requests, after the warm-up.
pub(crate) fn simulate(server: Server, rate: f64, requests: u64, seed: u64) -> Outcome {
    let mut simulation = Simulation {
        server,
        random: SmallRng::seed_from_u64(seed),
        sizes: BatchSizes::up_to(CAP_ROWS),
        estimator: CurveEstimator::new(),
        rate: ArrivalRate::new(RATE_WINDOW_US, 0),
        queue: WaitQueue::new(),
        since_us: 0,
        running: Vec::new(),
        outcome: Outcome::default(),
    };
    // What the batcher learns at warm-up.
    for rows in (1..=CAP_ROWS).rev() {
        simulation.estimator.observe(rows, ALPHA + BETA * f64::from(rows));
    }
    simulation.run(rate, requests);
    simulation.outcome
}

impl Simulation {
    fn run(&mut self, rate: f64, requests: u64) {
        let mut next_arrival_us = 0.0f64;
        let mut timer_us: Option<u64> = None;
        while self.outcome.sent < requests {
            let first = self.running.iter().enumerate().min_by_key(|(_, batch)| batch.ends_us);
            let first = first.map(|(index, batch)| (index, batch.ends_us));
            let arrival_us = next_arrival_us as u64;
            let timer = timer_us.unwrap_or(u64::MAX);
            let now_us = match first {
                Some((index, ends_us)) if ends_us <= arrival_us.min(timer) => {
                    let batch = self.running.swap_remove(index);
                    self.finish(&batch);
                    ends_us
                }
                _ if timer < arrival_us => timer,
                _ => {
                    let gap: f64 = -(1.0 - self.random.random::<f64>()).ln() / rate;
                    next_arrival_us += gap * 1e6;
                    self.arrive(arrival_us);
                    arrival_us
                }
            };
            timer_us = self.dispatch(now_us);
        }
        // What is on its way at the end belongs to neither side.
        let waiting = self.queue.drain().into_iter().map(|(_, waiting)| waiting.arrived_us);
        let running = self.running.drain(..).flat_map(|batch| batch.arrived_us);
        let left: u64 = waiting.chain(running).map(counted).sum();
        self.outcome.sent -= left;
        self.outcome.admitted -= left;
    }

    fn limit_rows(&self) -> u32 {
        let curve = self.estimator.curve();
        let Server { objective_us, slots, .. } = self.server;
        match self.deferring() {
            Some(curve) => deferred_limit(Some(&curve), objective_us, &self.sizes, f64::from(slots)),
            None => batch_limit(curve.as_ref(), objective_us, &self.sizes),
        }
    }

    /// The curve, where it says that waiting pays.
    fn deferring(&self) -> Option<ServiceCurve> {
        let Server { objective_us, slots, defers } = self.server;
        let pays = |curve: &ServiceCurve| deferral_pays(curve, objective_us, &self.sizes, f64::from(slots));
        self.estimator.curve().filter(|curve| defers && pays(curve))
    }

    fn free_slots(&self) -> u32 {
        self.server.slots - self.running.len() as u32
    }

    fn arrive(&mut self, now_us: u64) {
        self.outcome.sent += counted(now_us);
        let curve = self.estimator.curve();
        let ends = self.running.iter().map(|batch| {
            let rows = batch.arrived_us.len() as u32;
            batch.started_us + curve.map_or(0, |curve| curve.p95_us(rows))
        });
        let deadline_us = now_us + self.server.objective_us;
        let view = AdmitView {
            now_us,
            deadline_us,
            rows: 1,
            rows_ahead: self.queue.rows(),
            slots: self.server.slots,
            free_slots: self.free_slots(),
            slot_free_in_us: ends.min().unwrap_or(0).saturating_sub(now_us),
            limit_rows: self.limit_rows(),
            rows_per_second: if self.server.defers { self.rate.rows_per_second(now_us) } else { 0.0 },
            share: 1.0,
        };
        if matches!(admit(&view, curve.as_ref()), Admission::Reject { .. }) {
            return;
        }
        self.outcome.admitted += counted(now_us);
        self.rate.arrived(now_us, 1);
        if self.queue.is_empty() {
            self.since_us = now_us;
        }
        let size = Size::of_rows(1);
        self.queue.push(
            (),
            Ticket { class: 1, tenant: 0, weight: 1, deadline_us, size, arrived_us: now_us },
            (),
        );
    }

    /// Sends what may go; when to look again, where something waits for more.
    fn dispatch(&mut self, now_us: u64) -> Option<u64> {
        while self.free_slots() > 0 && !self.queue.is_empty() {
            let limit_rows = self.limit_rows();
            if let Some(curve) = self.deferring() {
                let view = DeferView {
                    now_us,
                    since_us: self.since_us,
                    deadline_us: self.queue.earliest_deadline_us().unwrap_or(u64::MAX),
                    rows: self.queue.rows(),
                    rows_per_second: self.rate.rows_per_second(now_us),
                    slots: f64::from(self.server.slots),
                    limit_rows,
                };
                if let Some(until_us) = defer_until(&view, &curve) {
                    return Some(until_us);
                }
            }
            let curve = self.estimator.curve();
            let limits = BatchLimits::of_sizes(&self.sizes);
            let batch = self.queue.cut(now_us, |()| Lane { limit_rows, curve }, &limits, |()| false);
            self.since_us = now_us;
            if batch.take.is_empty() {
                continue;
            }
            let noise: f64 = (0..4).map(|_| self.random.random_range(-0.0433..0.0433)).sum();
            let service = (ALPHA + BETA * batch.take.len() as f64) * (1.0 + noise);
            self.outcome.batches += counted(now_us);
            self.running.push(Running {
                started_us: now_us,
                ends_us: now_us + (service * 1e6) as u64,
                arrived_us: batch.take.iter().map(|waiting| waiting.arrived_us).collect(),
            });
        }
        None
    }

    fn finish(&mut self, batch: &Running) {
        let rows = batch.arrived_us.len() as u32;
        self.estimator.observe(rows, (batch.ends_us - batch.started_us) as f64 / 1e6);
        for &arrived_us in batch.arrived_us.iter().filter(|&&arrived_us| counted(arrived_us) > 0) {
            let latency_us = batch.ends_us - arrived_us;
            self.outcome.latencies_us.push(latency_us);
            self.outcome.met += u64::from(latency_us <= self.server.objective_us);
        }
    }
}

fn counted(arrived_us: u64) -> u64 {
    u64::from(arrived_us >= WARM_UP_US)
}
