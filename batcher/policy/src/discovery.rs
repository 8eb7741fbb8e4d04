//! How many batches a model server runs at a time, found out by its throughput.

use serde::Serialize;

/// Batches of a measurement, per slot.
const WINDOW_BATCHES: u32 = 32;
/// Parts of a measurement, whose differences tell its noise.
const PARTS: usize = 8;
/// Batches to let pass after a change, per slot: they began before it.
const SETTLE_BATCHES: u32 = 2;
/// A gain below this is none: the answers' way back, not another worker.
const LEAST_GAIN: f64 = 0.07;
/// And it has to be so many standard errors.
const LEAST_ERRORS: f64 = 3.0;
/// Measurements until a refused number of slots is tried again; doubled with each refusal.
const FIRST_REST: u32 = 16;
const LONGEST_REST: u32 = 1024;

/// Finds the number of slots of one model server by probing: with work waiting all the time, one more slot is tried
/// for a while, and kept where more work gets done per second by more than noise. Latency is not looked at: it rises
/// with each batch that waits inside the server.
///
/// Measures only while the server is saturated; everything else says nothing about how much it could do. From time
/// to time one slot more or less is tried again, ever more rarely: a larger number that gains nothing is given up
/// again.
#[derive(Debug, Clone)]
pub struct SlotDiscovery {
    most: u32,
    /// The number found so far.
    found: u32,
    /// What was measured with it.
    base: Option<Rate>,
    trying: Trying,
    window: Window,
    /// Measurements until the next try, and after the one that follows.
    rest: u32,
    next_rest: u32,
    /// The next try goes down.
    down: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
enum Trying {
    Nothing,
    More,
    Less,
}

/// Work per second, with its standard error.
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

    /// How many batches to run at a time now.
    pub fn slots(&self) -> u32 {
        match self.trying {
            Trying::Nothing => self.found,
            Trying::More => self.found + 1,
            Trying::Less => self.found - 1,
        }
    }

    /// A slot was left free for want of work: what is being measured says nothing.
    pub fn unsaturated(&mut self) {
        self.window = Window { settle: SETTLE_BATCHES * self.slots(), ..Window::default() };
    }

    /// A batch has ended at `now_us`, which was so much work (rows, or whatever is comparable between the batches
    /// of this server).
    pub fn ended(&mut self, now_us: u64, work: f64) {
        let slots = self.slots();
        let Some(rate) = self.window.ended(now_us, work, slots) else { return };
        match (self.trying, self.base) {
            (Trying::More, Some(base)) if rate.exceeds(base) => self.keep(slots, rate),
            // One slot less that does as much: the last one was good for nothing.
            (Trying::Less, Some(base)) if !base.exceeds(rate) => self.keep(slots, rate),
            (Trying::Nothing, _) | (_, None) => self.measured(rate),
            _ => self.give_up(),
        }
        self.window = Window { settle: SETTLE_BATCHES * slots.max(self.slots()), ..Window::default() };
    }

    fn keep(&mut self, slots: u32, rate: Rate) {
        let more = slots > self.found;
        (self.found, self.trying) = (slots, Trying::Nothing);
        // A gain may have been luck, and then the measurement that showed it is a lucky one: it is taken again, and
        // one slot less must do worse than that before one more is tried.
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
            // The first batch that counts only starts the clock.
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

    /// Whether this is more than the other, by more than noise.
    fn exceeds(self, other: Self) -> bool {
        let gain = self.mean - other.mean;
        gain > LEAST_GAIN * other.mean && gain > LEAST_ERRORS * self.error.hypot(other.error)
    }
}
