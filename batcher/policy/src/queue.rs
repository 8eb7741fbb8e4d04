//! Requests that wait for a slot, in the order in which they are to be served.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use crate::ServiceCurve;

/// Place in the queue: by class, then earliest deadline, then arrival. Equal deadlines are thus first come, first served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Order {
    /// Priority class, 0 is served first. A class is served only while none before it waits.
    pub class: u8,
    /// When the answer is due, microseconds; [`crate::NO_DEADLINE`] without one.
    pub deadline_us: u64,
    /// Number of its arrival, given by the queue; unique.
    pub arrival: u64,
}

/// A request that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting<T> {
    /// Its place.
    pub order: Order,
    /// Its rows, at least 1.
    pub rows: u32,
    /// When it came, microseconds.
    pub arrived_us: u64,
    /// Whatever the owner of the queue keeps with it.
    pub payload: T,
}

/// What a cut needs to know of one lane (requests of one key).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lane {
    /// B\* of the lane ([`crate::batch_limit`]).
    pub limit_rows: u32,
    /// Its service curve, once there is one.
    pub curve: Option<ServiceCurve>,
}

/// The requests to dispatch as one batch, and those that can no longer make their deadlines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch<K, T> {
    /// To be dispatched together; empty when nothing (feasible) waits. In order, all of one key.
    pub take: Vec<Waiting<T>>,
    /// The key of `take`.
    pub key: Option<K>,
    /// To be answered with an error now, with their keys.
    pub drop: Vec<(K, Waiting<T>)>,
}

/// The requests that wait, by key and in order. It has no bound of its own: the owner bounds what it pushes (by `len`, [`WaitQueue::rows`] or bytes).
#[derive(Debug)]
pub struct WaitQueue<K, T> {
    lanes: HashMap<K, BTreeMap<Order, Waiting<T>>>,
    rows: u64,
    len: usize,
    next_arrival: u64,
}

impl<K: Eq + Hash + Clone, T> WaitQueue<K, T> {
    /// An empty queue.
    pub fn new() -> Self {
        Self { lanes: HashMap::new(), rows: 0, len: 0, next_arrival: 0 }
    }

    /// Takes a request in and returns its place, which is the handle to [`WaitQueue::cancel`] it. Zero rows count as 1.
    pub fn push(
        &mut self,
        key: K,
        class: u8,
        deadline_us: u64,
        rows: u32,
        arrived_us: u64,
        payload: T,
    ) -> Order {
        todo!()
    }

    /// Takes a request out (its client has gone); `None` when it is no longer here.
    pub fn cancel(&mut self, key: &K, order: &Order) -> Option<Waiting<T>> {
        todo!()
    }

    /// Takes out the next batch; call it when a slot is free. `lane` tells limit and curve of a key. The key is that of the first request in order
    /// that can make its deadline (see [`crate::cut`]).
    pub fn cut(&mut self, now_us: u64, lane: impl Fn(&K) -> Lane) -> Batch<K, T> {
        todo!()
    }

    /// Takes out everything, in order (shutdown, or the upstream is gone for good).
    pub fn drain(&mut self) -> Vec<(K, Waiting<T>)> {
        todo!()
    }

    /// Rows that wait.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Requests that wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Rows that would be served before a request of this class and deadline that arrived now.
    pub fn rows_ahead(&self, class: u8, deadline_us: u64) -> u64 {
        todo!()
    }

    /// How long the request that came first has waited, microseconds; 0 when none waits.
    pub fn oldest_wait_us(&self, now_us: u64) -> u64 {
        todo!()
    }
}

impl<K: Eq + Hash + Clone, T> Default for WaitQueue<K, T> {
    fn default() -> Self {
        Self::new()
    }
}
