//! A discrete-event simulation: simulated server and arrivals, virtual time, seeded. One slot, L(b) = 20 ms + 1 ms·b
//! with noise, Poisson arrivals of one row. The curve is learned on the way.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sluice_batch_policy::{
    Admission, AdmitView, Backlog, BatchLimits, BatchSizes, CurveEstimator, Flow, Lane, Size, Ticket,
    WaitQueue, admit, batch_limit,
};

const ALPHA: f64 = 0.020;
const BETA: f64 = 0.001;
pub(crate) const OBJECTIVE_US: u64 = 300_000;
/// The queue's own bound, as the batcher has one.
const QUEUE_BOUND: usize = 4096;
/// As long as the first batches need; not counted.
const WARM_UP_US: u64 = 5_000_000;

/// Somebody who sends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source {
    pub(crate) flow: Flow,
    /// Requests per second.
    pub(crate) rate: f64,
}

impl Source {
    pub(crate) fn new(class: u8, tenant: u32, rate: f64) -> Self {
        Self { flow: Flow { class, tenant, weight: 1 }, rate }
    }
}

/// What became of one source's requests.
#[derive(Debug, Default, Clone)]
pub(crate) struct Outcome {
    pub(crate) sent: u64,
    /// Those that are still on their way at the end left out.
    pub(crate) admitted: u64,
    /// Answered within the objective.
    pub(crate) met: u64,
    pub(crate) dropped: u64,
    pub(crate) p50_us: u64,
    latencies_us: Vec<u64>,
}

impl Outcome {
    /// Part of the admitted that was answered within the objective.
    pub(crate) fn kept(&self) -> f64 {
        self.met as f64 / self.admitted.max(1) as f64
    }
}

/// Rows per second at full batches of the cap.
pub(crate) fn hard_maximum(cap_rows: u32) -> f64 {
    f64::from(cap_rows) / (ALPHA + BETA * f64::from(cap_rows))
}

struct Running {
    started_us: u64,
    ends_us: u64,
    /// Source and arrival of each request.
    requests: Vec<(usize, u64)>,
}

struct Simulation<'a> {
    sources: &'a [Source],
    random: SmallRng,
    estimator: CurveEstimator,
    queue: WaitQueue<(), usize>,
    backlog: Backlog,
    running: Option<Running>,
    outcomes: Vec<Outcome>,
}

/// Runs `seconds` after the warm-up; one outcome for each source.
pub(crate) fn simulate(cap_rows: u32, sources: &[Source], seconds: u64, seed: u64) -> Vec<Outcome> {
    let mut simulation = Simulation {
        sources,
        random: SmallRng::seed_from_u64(seed),
        estimator: CurveEstimator::new(),
        queue: WaitQueue::new(),
        backlog: Backlog::new(),
        running: None,
        outcomes: vec![Outcome::default(); sources.len()],
    };
    simulation.run(cap_rows, WARM_UP_US + seconds * 1_000_000);
    simulation.outcomes
}

impl Simulation<'_> {
    fn run(&mut self, cap_rows: u32, end_us: u64) {
        let sizes = BatchSizes::up_to(cap_rows);
        let rate: f64 = self.sources.iter().map(|source| source.rate).sum();
        let mut next_arrival_us = 0.0f64;
        loop {
            let limit_rows = batch_limit(self.estimator.curve().as_ref(), OBJECTIVE_US, &sizes);
            let finished = self.running.take_if(|batch| batch.ends_us as f64 <= next_arrival_us);
            let now_us = finished.as_ref().map_or(next_arrival_us as u64, |batch| batch.ends_us);
            if now_us > end_us {
                break;
            }
            match finished {
                Some(batch) => self.finish(&batch),
                None => {
                    let gap: f64 = -(1.0 - self.random.random::<f64>()).ln() / rate;
                    next_arrival_us += gap * 1e6;
                    let mut at = self.random.random_range(0.0..rate);
                    let source = self.sources.iter().position(|source| {
                        at -= source.rate;
                        at < 0.0
                    });
                    self.arrive(source.unwrap_or(0), now_us, limit_rows);
                }
            }
            if self.running.is_none() {
                self.cut(now_us, limit_rows, &sizes);
            }
        }
        for outcome in &mut self.outcomes {
            outcome.latencies_us.sort_unstable();
            outcome.p50_us =
                outcome.latencies_us.get(outcome.latencies_us.len() / 2).copied().unwrap_or_default();
        }
        // What is on its way at the end belongs to neither side.
        let waiting =
            self.queue.drain().into_iter().map(|(_, waiting)| (waiting.payload, waiting.arrived_us));
        let running = self.running.take().into_iter().flat_map(|batch| batch.requests);
        for (source, arrived_us) in waiting.chain(running) {
            self.outcomes[source].admitted -= counted(arrived_us);
        }
    }

    fn arrive(&mut self, source: usize, now_us: u64, limit_rows: u32) {
        let flow = self.sources[source].flow;
        let curve = self.estimator.curve();
        self.outcomes[source].sent += counted(now_us);
        let slot_free_in_us = match (&self.running, &curve) {
            (Some(batch), Some(curve)) => {
                (batch.started_us + curve.p95_us(batch.requests.len() as u32)).saturating_sub(now_us)
            }
            _ => 0,
        };
        let deadline_us = now_us + OBJECTIVE_US;
        let view = AdmitView {
            now_us,
            deadline_us,
            rows: 1,
            rows_ahead: self.backlog.rows_ahead(flow, 1),
            slots: 1,
            free_slots: u32::from(self.running.is_none()),
            slot_free_in_us,
            limit_rows,
            rows_per_second: 0.0,
            share: 1.0,
        };
        let is_admitted = matches!(admit(&view, curve.as_ref()), Admission::Admit { .. });
        if is_admitted && self.queue.len() < QUEUE_BOUND {
            self.outcomes[source].admitted += counted(now_us);
            self.backlog.enter(flow, 1);
            let Flow { class, tenant, weight } = flow;
            let size = Size::of_rows(1);
            self.queue.push(
                (),
                Ticket { class, tenant, weight, deadline_us, size, arrived_us: now_us },
                source,
            );
        }
    }

    fn cut(&mut self, now_us: u64, limit_rows: u32, sizes: &BatchSizes) {
        let curve = self.estimator.curve();
        let limits = BatchLimits::of_sizes(sizes);
        let batch = self.queue.cut(now_us, |()| Lane { limit_rows, curve }, &limits, |_| false);
        for (_, waiting) in &batch.drop {
            self.backlog.leave(self.sources[waiting.payload].flow, 1);
            self.outcomes[waiting.payload].dropped += counted(waiting.arrived_us);
        }
        if batch.take.is_empty() {
            return;
        }
        let sources = self.sources;
        batch.take.iter().for_each(|waiting| self.backlog.leave(sources[waiting.payload].flow, 1));
        self.backlog.served(batch.take.iter().map(|waiting| (sources[waiting.payload].flow, 1)));
        let noise: f64 = (0..4).map(|_| self.random.random_range(-0.0433..0.0433)).sum();
        let service = (ALPHA + BETA * batch.take.len() as f64) * (1.0 + noise);
        self.running = Some(Running {
            started_us: now_us,
            ends_us: now_us + (service * 1e6) as u64,
            requests: batch.take.iter().map(|waiting| (waiting.payload, waiting.arrived_us)).collect(),
        });
    }

    fn finish(&mut self, batch: &Running) {
        self.estimator.observe(batch.requests.len() as u32, (batch.ends_us - batch.started_us) as f64 / 1e6);
        for &(source, arrived_us) in batch.requests.iter().filter(|(_, arrived_us)| counted(*arrived_us) > 0)
        {
            let latency_us = batch.ends_us - arrived_us;
            self.outcomes[source].latencies_us.push(latency_us);
            self.outcomes[source].met += u64::from(latency_us <= OBJECTIVE_US);
        }
    }
}

fn counted(arrived_us: u64) -> u64 {
    u64::from(arrived_us >= WARM_UP_US)
}
