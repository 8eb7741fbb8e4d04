//! Decides which streams start now, which wait and which are rejected.

use std::collections::BTreeMap;

use super::{ConcurrencyLimiter, LimitBounds};
use crate::Order;

/// Settings of the admission of one model's streams.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StreamAdmissionSettings {
    /// Bounds of the limit per server.
    pub bounds: LimitBounds,
    /// Most requests that wait.
    pub most_waiting: usize,
    /// Time for which requests are held while there is no server, microseconds.
    pub hold_us: u64,
}

/// Result of the arrival of a request.
#[derive(Debug, PartialEq)]
pub enum Arrival<T> {
    /// The request waits; [`StreamAdmission::next`] may return it at once.
    Waits,
    /// The queue is full.
    Full {
        /// The request.
        payload: T,
        /// Time until there will be room, microseconds.
        retry_after_us: u64,
    },
    /// The request would start after its deadline.
    TooLate {
        /// The request.
        payload: T,
        /// When what waits now will have started, microseconds.
        retry_after_us: u64,
    },
}

/// Request that leaves the queue.
#[derive(Debug, PartialEq)]
pub enum Left<T> {
    /// The request starts. `weight` is to be passed back to [`StreamAdmission::ended`].
    Starts {
        /// The request.
        payload: T,
        /// Part of the limit that the request takes.
        weight: f64,
        /// Time for which the request has waited, microseconds.
        waited_us: u64,
    },
    /// The deadline of the request is over.
    Expired {
        /// The request.
        payload: T,
        /// When what waits now will have started, microseconds.
        retry_after_us: u64,
        /// Whether the request was held because there was no server.
        held: bool,
    },
}

#[derive(Debug)]
struct Waiting<T> {
    weight: f64,
    arrived_us: u64,
    /// Whether there was no server for a time: then the request also has the hold time.
    held: bool,
    payload: T,
}

/// Admission of streams to the servers of one model: a bounded queue by class and deadline, a learned limit per server
/// ([`ConcurrencyLimiter`]), and the prediction of when a request would start.
///
/// The limit counts streams of mean cost. A stream whose cost in tokens (prompt, and the most that it may generate) is
/// known weighs its cost ÷ the mean cost, between a quarter and four; one of unknown cost weighs 1. Where all costs are
/// known, a limit of n streams is thus a limit of n · mean tokens.
#[derive(Debug)]
pub struct StreamAdmission<T> {
    settings: StreamAdmissionSettings,
    limiter: ConcurrencyLimiter,
    waiting: BTreeMap<Order, Waiting<T>>,
    next_arrival: u64,
    servers: u32,
    running: u32,
    in_flight: f64,
    /// Mean tokens of the requests of known cost.
    mean_tokens: Option<f64>,
    /// Mean seconds from start to end.
    mean_seconds: Option<f64>,
}

/// Weight of a new cost or duration in its mean.
const NEW_PART: f64 = 1.0 / 32.0;
/// Time after which to try again where nothing is known of durations, microseconds.
const UNKNOWN_WAIT_US: u64 = 1_000_000;
/// Bounds of a weight: by its own figures a request can neither count as nothing nor fill the limit.
const WEIGHTS: (f64, f64) = (0.25, 4.0);

impl<T> StreamAdmission<T> {
    /// Creates an admission without servers.
    pub fn new(settings: StreamAdmissionSettings, now_us: u64) -> Self {
        Self {
            limiter: ConcurrencyLimiter::new(settings.bounds, now_us),
            settings,
            waiting: BTreeMap::new(),
            next_arrival: 0,
            servers: 0,
            running: 0,
            in_flight: 0.0,
            mean_tokens: None,
            mean_seconds: None,
        }
    }

    /// Sets other settings.
    pub fn set(&mut self, settings: StreamAdmissionSettings) {
        if settings != self.settings {
            self.limiter.set_bounds(settings.bounds);
            self.settings = settings;
        }
    }

    /// Sets the number of servers.
    pub fn set_servers(&mut self, now_us: u64, servers: u32) {
        self.servers = servers;
        if servers == 0 {
            self.waiting.values_mut().for_each(|waiting| waiting.held = true);
        }
        self.tell_limiter(now_us);
    }

    /// Takes in a request, or rejects it. `deadline_us` is the instant by which it must have started, `tokens` its
    /// cost, where that is known.
    pub fn arrive(
        &mut self,
        now_us: u64,
        class: u8,
        deadline_us: u64,
        tokens: Option<u64>,
        payload: T,
    ) -> Arrival<T> {
        let weight = self.weigh(tokens);
        let order = Order { class, tenant: 0, deadline_us, arrival: self.next_arrival };
        let wait_us = self.wait_us(&order, weight);
        let held = self.servers == 0;
        let at_once = !held && self.ahead(&order) == 0.0 && self.has_room_for(weight);
        if self.waiting.len() >= self.settings.most_waiting && !at_once {
            return Arrival::Full { payload, retry_after_us: self.retry_after_us(wait_us) };
        }
        if !held && wait_us > 0 && now_us.saturating_add(wait_us) > deadline_us {
            return Arrival::TooLate { payload, retry_after_us: wait_us };
        }
        self.next_arrival += 1;
        self.waiting.insert(order, Waiting { weight, arrived_us: now_us, held, payload });
        self.tell_limiter(now_us);
        Arrival::Waits
    }

    /// Takes out the next request that leaves the queue now; call it until it returns `None`.
    pub fn next(&mut self, now_us: u64) -> Option<Left<T>> {
        let expired = self.waiting.iter().find(|(order, waiting)| self.expiry_us(order, waiting) <= now_us);
        if let Some((order, waiting)) = expired {
            let (order, weight) = (*order, waiting.weight);
            let Waiting { payload, held, .. } = self.waiting.remove(&order)?;
            let retry_after_us = self.retry_after_us(self.wait_us(&order, weight));
            self.tell_limiter(now_us);
            return Some(Left::Expired { payload, retry_after_us, held: held && self.servers == 0 });
        }
        let (_, first) = self.waiting.first_key_value()?;
        if self.servers == 0 || !self.has_room_for(first.weight) {
            return None;
        }
        let (_, Waiting { payload, weight, arrived_us, .. }) = self.waiting.pop_first()?;
        self.running += 1;
        self.in_flight += weight;
        self.tell_limiter(now_us);
        Some(Left::Starts { payload, weight, waited_us: now_us.saturating_sub(arrived_us) })
    }

    /// Removes the waiting requests for which `wanted` does not hold.
    pub fn retain(&mut self, now_us: u64, wanted: impl Fn(&T) -> bool) {
        self.waiting.retain(|_, waiting| wanted(&waiting.payload));
        self.tell_limiter(now_us);
    }

    /// Notes that a stream has ended. `seconds` is its duration from the start; `None` where it was broken off.
    pub fn ended(&mut self, now_us: u64, weight: f64, seconds: Option<f64>) {
        self.running = self.running.saturating_sub(1);
        // While no stream runs, no rounding error must be left.
        self.in_flight = if self.running == 0 { 0.0 } else { (self.in_flight - weight).max(0.0) };
        if let Some(seconds) = seconds {
            average(&mut self.mean_seconds, seconds);
        }
        self.tell_limiter(now_us);
    }

    /// Notes a first token; see [`ConcurrencyLimiter::first_token`].
    pub fn first_token(&mut self, seconds: f64) {
        self.limiter.first_token(seconds);
    }

    /// Adds work that all servers together have done since the last call.
    pub fn work(&mut self, units: f64) {
        self.limiter.work(units / f64::from(self.servers.max(1)));
    }

    /// Lets the limit follow the measurements; see [`ConcurrencyLimiter::turn`].
    pub fn turn(&mut self, now_us: u64) -> bool {
        self.limiter.turn(now_us)
    }

    /// Returns the number of streams that may be in flight at all servers together: the limit of one times their
    /// number.
    pub fn limit(&self) -> f64 {
        self.limiter.limit() * f64::from(self.servers)
    }

    /// Returns the number of servers.
    pub fn servers(&self) -> u32 {
        self.servers
    }

    /// Returns the number of streams in flight.
    pub fn running(&self) -> u32 {
        self.running
    }

    /// Returns the number of waiting requests.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Returns the longest time for which a request has waited, microseconds; 0 where none waits.
    pub fn oldest_wait_us(&self, now_us: u64) -> u64 {
        let oldest = self.waiting.values().map(|waiting| waiting.arrived_us).min();
        oldest.map_or(0, |arrived_us| now_us.saturating_sub(arrived_us))
    }

    /// Returns the instant at which the next request expires, microseconds; `None` where none waits.
    pub fn next_expiry_us(&self) -> Option<u64> {
        self.waiting.iter().map(|(order, waiting)| self.expiry_us(order, waiting)).min()
    }

    /// Predicts the wait of a request of this class without a deadline that arrives now, microseconds.
    pub fn predicted_wait_us(&self, class: u8) -> u64 {
        self.wait_us(&Order { class, tenant: 0, deadline_us: u64::MAX, arrival: u64::MAX }, 1.0)
    }

    fn weigh(&mut self, tokens: Option<u64>) -> f64 {
        let Some(tokens) = tokens else { return 1.0 };
        let tokens = tokens.max(1) as f64;
        average(&mut self.mean_tokens, tokens);
        let mean = self.mean_tokens.unwrap_or(tokens);
        (tokens / mean).clamp(WEIGHTS.0, WEIGHTS.1)
    }

    fn expiry_us(&self, order: &Order, waiting: &Waiting<T>) -> u64 {
        if waiting.held {
            order.deadline_us.max(waiting.arrived_us.saturating_add(self.settings.hold_us))
        } else {
            order.deadline_us
        }
    }

    /// Returns whether a stream of this weight may start now. While none runs, one may, whatever its weight.
    fn has_room_for(&self, weight: f64) -> bool {
        self.running == 0 || self.in_flight + weight <= self.limit() + 1e-9
    }

    /// Predicts the wait of a request with this place, microseconds; 0 where it could start at once or no duration is
    /// known yet. By Little's law a full server ends (limit ÷ mean duration) streams per second.
    fn wait_us(&self, order: &Order, weight: f64) -> u64 {
        let ahead = self.ahead(order);
        if ahead == 0.0 && self.has_room_for(weight) {
            return 0;
        }
        let limit = self.limit().max(1.0);
        let to_end = self.in_flight + ahead + weight - limit;
        let seconds = to_end.max(0.0) * self.mean_seconds.unwrap_or(0.0) / limit;
        crate::to_us(seconds)
    }

    /// Returns the weight of the waiting requests that would start before.
    fn ahead(&self, order: &Order) -> f64 {
        self.waiting.range(..order).map(|(_, waiting)| waiting.weight).sum()
    }

    /// Returns the time after which to try again: the predicted wait, or a second where none can be predicted.
    fn retry_after_us(&self, wait_us: u64) -> u64 {
        if wait_us == 0 { UNKNOWN_WAIT_US } else { wait_us }
    }

    fn tell_limiter(&mut self, now_us: u64) {
        let servers = f64::from(self.servers.max(1));
        let waiting = self.servers > 0 && !self.waiting.is_empty();
        self.limiter.set(now_us, self.in_flight / servers, waiting);
    }
}

fn average(mean: &mut Option<f64>, value: f64) {
    *mean = Some(mean.map_or(value, |mean| mean + NEW_PART * (value - mean)));
}
