//! Simulated batching servers behind one queue, event by event: what the model is measured against.
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sluice_scaling_policy::Curve;
use std::collections::VecDeque;

/// Simulated servers: replicas that may be starting, busy or leaving, and rows that wait.
pub(crate) struct Servers {
    curve: Curve,
    /// (ready from, busy until, leaving).
    slots: Vec<(f64, f64, bool)>,
    queue: VecDeque<f64>,
    pub(crate) latencies: Vec<(f64, f64)>,
    pub(crate) replica_ms: f64,
    now: f64,
}

impl Servers {
    pub(crate) fn new(curve: Curve, replicas: usize) -> Self {
        Self {
            curve,
            slots: vec![(0.0, 0.0, false); replicas],
            queue: VecDeque::new(),
            latencies: Vec::new(),
            replica_ms: 0.0,
            now: 0.0,
        }
    }

    /// A row arrives at `at` ms; all that happens before happens first.
    pub(crate) fn arrive(&mut self, at: f64) {
        self.advance(at);
        self.queue.push_back(at);
        self.dispatch(at);
    }

    /// Lets time pass until `until` ms.
    pub(crate) fn advance(&mut self, until: f64) {
        loop {
            // Whichever slot is next able to take the head of the queue.
            let next = self
                .slots
                .iter()
                .filter(|(_, _, leaving)| !leaving)
                .map(|(ready, busy, _)| ready.max(*busy))
                .filter(|at| *at > self.now)
                .fold(f64::INFINITY, f64::min);
            if self.queue.is_empty() || next > until {
                break;
            }
            self.tick(next);
            self.dispatch(next);
        }
        self.tick(until);
    }

    fn tick(&mut self, to: f64) {
        #[expect(clippy::cast_precision_loss, reason = "a few replicas")]
        let held = self.slots.len() as f64;
        self.replica_ms += held * (to - self.now);
        self.now = to;
        self.slots.retain(|(_, busy, leaving)| !leaving || *busy > to);
    }

    fn dispatch(&mut self, at: f64) {
        for i in 0..self.slots.len() {
            let (ready, busy, leaving) = self.slots[i];
            if leaving || ready > at || busy > at || self.queue.is_empty() {
                continue;
            }
            let rows = self.queue.len().min(self.curve.batch_rows_limit as usize);
            let done = at + self.curve.batch_ms(u32::try_from(rows).unwrap());
            self.latencies.extend(self.queue.drain(..rows).map(|arrived| (arrived, done - arrived)));
            self.slots[i].1 = done;
        }
    }

    /// More replicas start (ready after `startup_ms`), or the last ones finish their batch and leave.
    pub(crate) fn scale(&mut self, replicas: u32, startup_ms: f64) {
        let wanted = replicas as usize;
        let stay = self.slots.iter().filter(|s| !s.2).count();
        for _ in stay..wanted {
            self.slots.push((self.now + startup_ms, 0.0, false));
        }
        let leaving = self.slots.iter_mut().rev().filter(|s| !s.2).take(stay.saturating_sub(wanted));
        leaving.for_each(|slot| slot.2 = true);
        let now = self.now;
        self.slots.retain(|(_, busy, leaving)| !leaving || *busy > now);
    }

    pub(crate) fn ready(&self) -> u32 {
        u32::try_from(self.slots.iter().filter(|(ready, _, leaving)| !leaving && *ready <= self.now).count())
            .unwrap()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.queue.len()
    }
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
