//! Finds out by throughput how many batches a model server runs at a time.

use serde::Serialize;

/// Number of batches of a measurement, per slot.
const WINDOW_BATCHES: u32 = 32;
/// Number of parts of a measurement, whose differences show its noise.
const PARTS: usize = 8;
/// Number of batches to ignore after a change, per slot: they began before it.
const SETTLE_BATCHES: u32 = 2;
/// Smallest relative gain that counts: a smaller one comes from the time that answers travel, not from another worker.
const LEAST_GAIN: f64 = 0.07;
/// Smallest gain that counts, in standard errors.
const LEAST_ERRORS: f64 = 3.0;
/// Number of measurements until a number of slots that gained nothing is tried again; doubled with each failed try.
const FIRST_REST: u32 = 16;
const LONGEST_REST: u32 = 1024;

/// Search for the number of slots of one model server by probing: with work waiting all the time, one more slot is
/// tried for a while, and kept where the work per second grows by more than noise. Latency is ignored: it rises with
/// each batch that waits inside the server.
///
/// It measures only while the server is saturated, because only then throughput shows what the server can do. From time
/// to time one slot more or less is tried again, ever more rarely: a larger number that gains nothing is given up
/// again.
#[derive(Debug, Clone)]
pub struct SlotDiscovery {
    most: u32,
    /// Number of slots found so far.
    found: u32,
    /// Rate measured with that number; `None` before it is measured.
    base: Option<Rate>,
    trying: Trying,
    window: Window,
    /// Number of measurements until the next try; `next_rest` is the number after that try, if it fails.
    rest: u32,
    next_rest: u32,
    /// Whether the next try is one slot less.
    down: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
enum Trying {
    Nothing,
    More,
    Less,
}

/// Work per second, with the standard error of its mean.
#[derive(Debug, Clone, Copy)]
struct Rate {
    mean: f64,
    error: f64,
}

#[derive(Debug, Clone, Default)]
struct Window {
    settle: u32,
    batches: u32,
    work: f64,
    since_us: Option<u64>,
    rates: Vec<f64>,
}

impl SlotDiscovery {
    /// Starts with `hint` slots (at least 1); never tries more than `most`.
    pub fn new(hint: u32, most: u32) -> Self {
        let most = most.max(1);
        let found = hint.clamp(1, most);
        Self {
            most,
            found,
            base: None,
            trying: Trying::Nothing,
            window: Window::default(),
            rest: 0,
            next_rest: FIRST_REST,
            down: found > 1,
        }
    }

    /// Returns the number of batches to run at a time now.
    pub fn slots(&self) -> u32 {
        match self.trying {
            Trying::Nothing => self.found,
            Trying::More => self.found + 1,
            Trying::Less => self.found - 1,
        }
    }

    /// Notes that a slot stayed free because no work waited: the current measurement starts again.
    pub fn unsaturated(&mut self) {
        self.window = Window { settle: SETTLE_BATCHES * self.slots(), ..Window::default() };
    }

    /// Notes that a batch has ended at `now_us`. `work` is its amount of work: rows, or any unit that is comparable
    /// between the batches of this server.
    pub fn ended(&mut self, now_us: u64, work: f64) {
        let slots = self.slots();
        let Some(rate) = self.window.ended(now_us, work, slots) else { return };
        match (self.trying, self.base) {
            (Trying::More, Some(base)) if rate.exceeds(base) => self.keep(slots, rate),
            // One slot less does as much work: the last slot was useless.
            (Trying::Less, Some(base)) if !base.exceeds(rate) => self.keep(slots, rate),
            (Trying::Nothing, _) | (_, None) => self.measured(rate),
            _ => self.give_up(),
        }
        self.window = Window { settle: SETTLE_BATCHES * slots.max(self.slots()), ..Window::default() };
    }

    fn keep(&mut self, slots: u32, rate: Rate) {
        let more = slots > self.found;
        (self.found, self.trying) = (slots, Trying::Nothing);
        // A gain may have been chance, and then the measurement that showed it is too high: it is repeated, and one
        // slot less must be worse than the repeated one before one slot more is tried.
        self.base = (!more).then_some(rate);
        self.down = slots > 1;
        self.next_rest = FIRST_REST;
        self.rest = if self.down { 0 } else { FIRST_REST };
        self.next_try();
    }

    fn give_up(&mut self) {
        let went_down = self.trying == Trying::Less;
        self.trying = Trying::Nothing;
        if went_down && self.base.is_some() && self.rest == 0 {
            // Both directions are tried in a row.
            self.down = false;
            self.next_try();
            return;
        }
        self.base = None;
        self.down = self.found > 1;
        self.rest = self.next_rest;
        self.next_rest = (self.next_rest * 2).min(LONGEST_REST);
    }

    fn measured(&mut self, rate: Rate) {
        self.base = Some(rate);
        self.rest = self.rest.saturating_sub(1);
        self.next_try();
    }

    fn next_try(&mut self) {
        self.trying = match self.base {
            Some(_) if self.rest == 0 && self.down && self.found > 1 => Trying::Less,
            Some(_) if self.rest == 0 && self.found < self.most => Trying::More,
            _ => Trying::Nothing,
        };
    }
}

impl Window {
    fn ended(&mut self, now_us: u64, work: f64, slots: u32) -> Option<Rate> {
        let Some(since_us) = self.since_us else {
            // The first batch after the ignored ones only starts the clock.
            self.settle = self.settle.saturating_sub(1);
            self.since_us = (self.settle == 0).then_some(now_us);
            return None;
        };
        self.batches += 1;
        self.work += work;
        let part_batches = WINDOW_BATCHES * slots / PARTS as u32;
        if self.batches < part_batches || now_us <= since_us {
            return None;
        }
        self.rates.push(self.work / (now_us - since_us) as f64 * crate::US_PER_SECOND);
        (self.batches, self.work, self.since_us) = (0, 0.0, Some(now_us));
        (self.rates.len() == PARTS).then(|| Rate::of(&self.rates))
    }
}

impl Rate {
    fn of(rates: &[f64]) -> Self {
        let count = rates.len() as f64;
        let mean = rates.iter().sum::<f64>() / count;
        let variance = rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / (count - 1.0);
        Self { mean, error: (variance / count).sqrt() }
    }

    /// Returns whether this rate is higher than the other by more than noise.
    fn exceeds(self, other: Self) -> bool {
        let gain = self.mean - other.mean;
        gain > LEAST_GAIN * other.mean && gain > LEAST_ERRORS * self.error.hypot(other.error)
    }
}
