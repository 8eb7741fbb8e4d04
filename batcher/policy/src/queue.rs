//! Queue of the requests that wait for a slot, in the order in which they are to be served.

mod fair;
mod lane;

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use crate::{BatchLimits, Lane, Size};
use fair::FairShares;
use lane::{Requests, ServiceOrder};

/// Place of a request among the requests of its class and tenant: earliest deadline, then arrival, so that requests
/// with equal deadlines are served in order of arrival. Between classes the lower number comes first; between the
/// tenants of a class the queue shares fairly, whatever their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Order {
    /// Priority class, 0 is served first. A class is served only while no request of an earlier class waits.
    pub class: u8,
    /// Tenant of the request; 0 where there are no tenants.
    pub tenant: u32,
    /// Deadline of the answer, microseconds; [`crate::NO_DEADLINE`] without one.
    pub deadline_us: u64,
    /// Number of the request's arrival, given by the queue; unique.
    pub arrival: u64,
}

impl Order {
    fn first_of(class: u8, tenant: u32) -> Self {
        Self { class, tenant, deadline_us: 0, arrival: 0 }
    }

    fn last_of(class: u8, tenant: u32) -> Self {
        Self { class, tenant, deadline_us: u64::MAX, arrival: u64::MAX }
    }
}

/// Description of a request for the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// Priority class, 0 is served first.
    pub class: u8,
    /// Tenant of the request: any number; 0 where there are no tenants.
    pub tenant: u32,
    /// Weight of the tenant, at least 1: its part of the rows served, relative to the other tenants'.
    pub weight: u32,
    /// Deadline of the answer, microseconds.
    pub deadline_us: u64,
    /// Size that the request adds to a batch. Zero rows count as 1.
    pub size: Size,
    /// Instant of arrival, microseconds.
    pub arrived_us: u64,
}

/// Request that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting<T> {
    /// Place of the request.
    pub order: Order,
    /// Weight of the request's tenant.
    pub weight: u32,
    /// Size that the request adds to a batch; at least one row.
    pub size: Size,
    /// Instant of arrival, microseconds.
    pub arrived_us: u64,
    /// Value that the owner of the queue keeps with the request.
    pub payload: T,
}

/// Requests to dispatch as one batch, and those that can no longer make their deadlines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch<K, T> {
    /// Requests to be dispatched together, in order, all of one key; empty where no request waits that can make its
    /// deadline.
    pub take: Vec<Waiting<T>>,
    /// Key of `take`; `None` where it is empty.
    pub key: Option<K>,
    /// Size of all requests in `take` together.
    pub size: Size,
    /// Rows on the wire: more than `size.rows` where the batch is to be padded.
    pub sent_rows: u32,
    /// Requests to be answered with an error now, with their keys.
    pub drop: Vec<(K, Waiting<T>)>,
    /// Requests whose clients have gone.
    pub gone: Vec<Waiting<T>>,
}

/// Queue of the waiting requests, by key and in order. It has no bound of its own: the owner bounds what it pushes (by
/// [`WaitQueue::len`], [`WaitQueue::rows`] or bytes).
#[derive(Debug)]
pub struct WaitQueue<K, T> {
    lanes: HashMap<K, Requests<T>>,
    /// Key of each request.
    keys: BTreeMap<Order, K>,
    shares: FairShares,
    next_arrival: u64,
}

impl<K: Eq + Hash + Clone, T> WaitQueue<K, T> {
    /// Creates an empty queue.
    pub fn new() -> Self {
        Self { lanes: HashMap::new(), keys: BTreeMap::new(), shares: FairShares::default(), next_arrival: 0 }
    }

    /// Takes a request in and returns its place, which is the handle to [`WaitQueue::cancel`] it.
    pub fn push(&mut self, key: K, arrival: Ticket, payload: T) -> Order {
        let Ticket { class, tenant, weight, deadline_us, size, arrived_us } = arrival;
        let order = Order { class, tenant, deadline_us, arrival: self.next_arrival };
        self.next_arrival += 1;
        let size = Size { rows: size.rows.max(1), ..size };
        self.shares.enter(class, tenant, size.rows);
        self.keys.insert(order, key.clone());
        let waiting = Waiting { order, weight, size, arrived_us, payload };
        self.lanes.entry(key).or_default().insert(order, waiting);
        order
    }

    /// Takes out a request whose client has gone; `None` where the request is no longer here.
    pub fn cancel(&mut self, order: &Order) -> Option<Waiting<T>> {
        let key = self.keys.get(order)?.clone();
        self.remove(&key, std::slice::from_ref(order)).pop()
    }

    /// Takes out the next batch; call it when a slot is free. `lane` returns B\* and curve of a key; requests for which
    /// `is_gone` holds take no room. The key is that of the first request in order that can make its deadline (see
    /// [`crate::cut`]).
    pub fn cut(
        &mut self,
        now_us: u64,
        lane: impl Fn(&K) -> Lane,
        limits: &BatchLimits<'_>,
        is_gone: impl Fn(&T) -> bool,
    ) -> Batch<K, T> {
        self.cut_where(now_us, lane, limits, is_gone, |_| true)
    }

    /// Takes out the next batch as `cut` does, of requests whose key may be sent now. Requests of other keys
    /// wait for a slot elsewhere and are ignored.
    pub fn cut_where(
        &mut self,
        now_us: u64,
        lane: impl Fn(&K) -> Lane,
        limits: &BatchLimits<'_>,
        is_gone: impl Fn(&T) -> bool,
        may_go: impl Fn(&K) -> bool,
    ) -> Batch<K, T> {
        let mut batch = Batch {
            take: Vec::new(),
            key: None,
            size: Size::default(),
            sent_rows: 0,
            drop: Vec::new(),
            gone: Vec::new(),
        };
        while let Some(key) = self.first_key(&may_go).cloned() {
            let Some(requests) = self.lanes.get(&key) else { break };
            let mut gone = Vec::new();
            let waiting = ServiceOrder::new(requests, &self.shares)
                .filter(|waiting| {
                    let is_gone = is_gone(&waiting.payload);
                    if is_gone {
                        gone.push(waiting.order);
                    }
                    !is_gone
                })
                .map(|waiting| (waiting.order, waiting.size));
            let cut = crate::cut(waiting, now_us, &lane(&key), limits);
            batch.gone.extend(self.remove(&key, &gone));
            let dropped = self.remove(&key, &cut.drop).into_iter();
            batch.drop.extend(dropped.map(|waiting| (key.clone(), waiting)));
            // With some heads dropped, this lane may no longer be the most urgent one.
            let removed = !(cut.drop.is_empty() && gone.is_empty());
            if !cut.take.is_empty() && (!removed || self.first_key(&may_go) == Some(&key)) {
                for order in &cut.take {
                    let taken = self.lanes.get(&key).and_then(|requests| requests.get(order));
                    if let Some(Waiting { size, weight, .. }) = taken {
                        self.shares.serve(order.class, order.tenant, size.rows, *weight);
                    }
                }
                batch.take = self.remove(&key, &cut.take);
                self.shares.settle_all();
                (batch.size, batch.sent_rows) = (cut.size, cut.sent_rows);
                batch.key = Some(key);
                break;
            }
        }
        batch
    }

    /// Takes out the requests whose deadlines are over, in no order between keys, tenants and classes. Looks at each
    /// request.
    pub fn overdue(&mut self, now_us: u64) -> Vec<Waiting<T>> {
        // Deadlines are in order within a class and tenant only; callers do this by a timer.
        self.take_out(|waiting| waiting.order.deadline_us <= now_us)
    }

    /// Takes out all requests for which `condition` holds. Looks at each request.
    pub fn take_out(&mut self, condition: impl Fn(&Waiting<T>) -> bool) -> Vec<Waiting<T>> {
        let all = self.lanes.values().flat_map(Requests::values);
        let orders: Vec<Order> =
            all.filter(|waiting| condition(waiting)).map(|waiting| waiting.order).collect();
        orders.iter().filter_map(|order| self.cancel(order)).collect()
    }

    /// Takes out all requests, by class, tenant and deadline (shutdown, or the model server is gone for good).
    pub fn drain(&mut self) -> Vec<(K, Waiting<T>)> {
        self.shares.clear();
        self.keys.clear();
        let lanes = self.lanes.drain();
        let mut all: Vec<_> = lanes
            .flat_map(|(key, lane)| lane.into_values().map(move |waiting| (key.clone(), waiting)))
            .collect();
        all.sort_by_key(|(_, waiting)| waiting.order);
        all
    }

    /// Returns the number of waiting rows.
    pub fn rows(&self) -> u64 {
        self.shares.rows()
    }

    /// Returns the number of waiting requests.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns whether no request waits.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Returns the key of all waiting requests; `None` where none waits, or where they have several keys.
    pub fn only_key(&self) -> Option<&K> {
        let mut keys = self.lanes.keys();
        keys.next().filter(|_| keys.next().is_none())
    }

    /// Returns the earliest deadline of all waiting requests, microseconds; `None` where none waits.
    pub fn earliest_deadline_us(&self) -> Option<u64> {
        let mut earliest: Option<u64> = None;
        let mut from = Order::first_of(0, 0);
        // The first one of each class and tenant.
        while let Some((&order, _)) = self.keys.range(from..).next() {
            earliest = Some(earliest.map_or(order.deadline_us, |us| us.min(order.deadline_us)));
            let Some(next) = order.tenant.checked_add(1) else { break };
            from = Order::first_of(order.class, next);
        }
        earliest
    }

    /// Returns the longest time for which a request has waited, microseconds; 0 where none waits. Looks at each
    /// request.
    pub fn oldest_wait_us(&self, now_us: u64) -> u64 {
        let all = self.lanes.values().flat_map(Requests::values);
        all.map(|waiting| now_us.saturating_sub(waiting.arrived_us)).max().unwrap_or(0)
    }

    /// Returns the key of the first request in order that may be sent now.
    fn first_key(&self, may_go: impl Fn(&K) -> bool) -> Option<&K> {
        let mut least = 0;
        loop {
            let (class, tenants) = self.shares.first_class(least)?;
            let heads = tenants.filter_map(|tenant| {
                let flow = Order::first_of(class, tenant)..=Order::last_of(class, tenant);
                self.keys.range(flow).find(|(_, key)| may_go(key))
            });
            let urgency = |order: &Order| (self.shares.tag(class, order.tenant), order.deadline_us);
            if let Some((_, key)) = heads.min_by_key(|(order, _)| urgency(order)) {
                return Some(key);
            }
            least = class.checked_add(1)?;
        }
    }

    /// Takes out these requests of one key, in their order.
    fn remove(&mut self, key: &K, orders: &[Order]) -> Vec<Waiting<T>> {
        if orders.is_empty() {
            return Vec::new();
        }
        let Some(requests) = self.lanes.get_mut(key) else { return Vec::new() };
        let mut removed = Vec::with_capacity(orders.len());
        for order in orders {
            let Some(waiting) = requests.remove(order) else { continue };
            self.keys.remove(order);
            self.shares.leave(order.class, order.tenant, waiting.size.rows);
            removed.push(waiting);
        }
        if requests.is_empty() {
            self.lanes.remove(key);
        }
        removed
    }
}

impl<K: Eq + Hash + Clone, T> Default for WaitQueue<K, T> {
    fn default() -> Self {
        Self::new()
    }
}
