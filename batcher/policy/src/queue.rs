//! Requests that wait for a slot, in the order in which they are to be served.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;

use crate::ServiceCurve;

/// Place in the queue: by class, then earliest deadline, then arrival. Equal deadlines are thus first come, first
/// served.
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

/// The requests that wait, by key and in order. It has no bound of its own: the owner bounds what it pushes (by
/// [`WaitQueue::len`], [`WaitQueue::rows`] or bytes).
#[derive(Debug)]
pub struct WaitQueue<K, T> {
    lanes: HashMap<K, BTreeMap<Order, Waiting<T>>>,
    /// Rows that wait, by class.
    class_rows: BTreeMap<u8, u64>,
    /// When each came, and its number of arrival.
    arrivals: BTreeSet<(u64, u64)>,
    next_arrival: u64,
}

impl<K: Eq + Hash + Clone, T> WaitQueue<K, T> {
    /// An empty queue.
    pub fn new() -> Self {
        Self {
            lanes: HashMap::new(),
            class_rows: BTreeMap::new(),
            arrivals: BTreeSet::new(),
            next_arrival: 0,
        }
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
        let order = Order { class, deadline_us, arrival: self.next_arrival };
        self.next_arrival += 1;
        self.put_back(key, Waiting { order, rows: rows.max(1), arrived_us, payload });
        order
    }

    /// Puts a request that was taken out of this queue back to its old place, before all that came after it.
    pub fn put_back(&mut self, key: K, waiting: Waiting<T>) {
        let order = waiting.order;
        *self.class_rows.entry(order.class).or_default() += u64::from(waiting.rows);
        self.arrivals.insert((waiting.arrived_us, order.arrival));
        self.lanes.entry(key).or_default().insert(order, waiting);
    }

    /// Takes a request out (its client has gone); `None` when it is no longer here.
    pub fn cancel(&mut self, key: &K, order: &Order) -> Option<Waiting<T>> {
        let lane = self.lanes.get_mut(key)?;
        let waiting = lane.remove(order)?;
        if lane.is_empty() {
            self.lanes.remove(key);
        }
        self.arrivals.remove(&(waiting.arrived_us, order.arrival));
        if let Some(rows) = self.class_rows.get_mut(&order.class) {
            *rows -= u64::from(waiting.rows);
        }
        Some(waiting)
    }

    /// Takes out the next batch; call it when a slot is free. `lane` tells limit and curve of a key. The key is
    /// that of the first request in order that can make its deadline (see [`crate::cut`]).
    pub fn cut(&mut self, now_us: u64, lane: impl Fn(&K) -> Lane) -> Batch<K, T> {
        let mut batch = Batch { take: Vec::new(), key: None, drop: Vec::new() };
        while let Some(key) = self.first_key() {
            let Lane { limit_rows, curve } = lane(&key);
            let waiting = self.lanes.get(&key).into_iter().flat_map(|lane| lane.values());
            let cut = crate::cut(waiting.map(|w| (w.order, w.rows)), now_us, limit_rows, curve.as_ref());
            let dropped = cut.drop.iter().filter_map(|order| self.cancel(&key, order));
            batch.drop.extend(dropped.map(|waiting| (key.clone(), waiting)));
            // With its heads dropped, this lane may no longer be the most urgent one.
            if !cut.take.is_empty() && (cut.drop.is_empty() || self.first_key().as_ref() == Some(&key)) {
                batch.take = cut.take.iter().filter_map(|order| self.cancel(&key, order)).collect();
                batch.key = Some(key);
                break;
            }
        }
        batch
    }

    /// Takes out everything, in order (shutdown, or the upstream is gone for good).
    pub fn drain(&mut self) -> Vec<(K, Waiting<T>)> {
        self.class_rows.clear();
        self.arrivals.clear();
        let lanes = self.lanes.drain();
        let mut all: Vec<_> = lanes
            .flat_map(|(key, lane)| lane.into_values().map(move |waiting| (key.clone(), waiting)))
            .collect();
        all.sort_by_key(|(_, waiting)| waiting.order);
        all
    }

    /// Rows that wait.
    pub fn rows(&self) -> u64 {
        self.class_rows.values().sum()
    }

    /// Requests that wait.
    pub fn len(&self) -> usize {
        self.arrivals.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.arrivals.is_empty()
    }

    /// Rows that would be served before a request of this class and deadline that arrived now. Its cost grows with
    /// those that would be served after it within the class: none, where all have one objective.
    pub fn rows_ahead(&self, class: u8, deadline_us: u64) -> u64 {
        let up_to_class: u64 = self.class_rows.range(..=class).map(|(_, rows)| rows).sum();
        let place = Order { class, deadline_us, arrival: self.next_arrival };
        let end = Order { class, deadline_us: u64::MAX, arrival: u64::MAX };
        let behind = self.lanes.values().flat_map(|lane| lane.range(place..=end));
        up_to_class - behind.map(|(_, waiting)| u64::from(waiting.rows)).sum::<u64>()
    }

    /// How long the one that came first has waited, microseconds; 0 when none waits.
    pub fn oldest_wait_us(&self, now_us: u64) -> u64 {
        self.arrivals.first().map_or(0, |(arrived_us, _)| now_us.saturating_sub(*arrived_us))
    }

    /// The key of the first request in order.
    fn first_key(&self) -> Option<K> {
        let heads = self.lanes.iter().filter_map(|(key, lane)| Some((lane.first_key_value()?.0, key)));
        heads.min_by_key(|(order, _)| **order).map(|(_, key)| key.clone())
    }
}

impl<K: Eq + Hash + Clone, T> Default for WaitQueue<K, T> {
    fn default() -> Self {
        Self::new()
    }
}
