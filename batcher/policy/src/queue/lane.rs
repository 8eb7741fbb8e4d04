//! Requests of one key, in the order in which they are to be served.

use std::collections::{BTreeMap, btree_map};

use super::fair::{FairShares, charge};
use super::{Order, Waiting};

/// Requests of one key by place.
pub(super) type Requests<T> = BTreeMap<Order, Waiting<T>>;

/// Iterator over a lane by class, then fair share, then deadline, as if each returned request were served.
pub(super) struct ServiceOrder<'a, T> {
    requests: &'a Requests<T>,
    shares: &'a FairShares,
    /// Class after the current one; `None` after the last class.
    next_class: Option<u8>,
    /// Tenants of the current class that have more requests.
    tenants: Vec<Tenant<'a, T>>,
}

struct Tenant<'a, T> {
    tag: u128,
    head: &'a Waiting<T>,
    rest: btree_map::Range<'a, Order, Waiting<T>>,
}

impl<'a, T> ServiceOrder<'a, T> {
    pub(super) fn new(requests: &'a Requests<T>, shares: &'a FairShares) -> Self {
        Self { requests, shares, next_class: Some(0), tenants: Vec::new() }
    }

    /// Finds the tenants of the next class that has requests.
    fn open_class(&mut self) -> Option<()> {
        let mut from = Order::first_of(self.next_class?, 0);
        let class = self.requests.range(from..).next()?.0.class;
        self.next_class = class.checked_add(1);
        while let Some((&Order { tenant, .. }, _)) =
            self.requests.range(from..=Order::last_of(class, u32::MAX)).next()
        {
            let mut rest = self.requests.range(from..=Order::last_of(class, tenant));
            if let Some((_, head)) = rest.next() {
                self.tenants.push(Tenant { tag: self.shares.tag(class, tenant), head, rest });
            }
            let Some(next) = tenant.checked_add(1) else { break };
            from = Order::first_of(class, next);
        }
        Some(())
    }
}

impl<'a, T> Iterator for ServiceOrder<'a, T> {
    type Item = &'a Waiting<T>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.tenants.is_empty() {
            self.open_class()?;
        }
        let urgency = |tenant: &Tenant<'a, T>| (tenant.tag, tenant.head.order.deadline_us);
        let at = match self.tenants.len() {
            1 => 0,
            _ => (0..self.tenants.len()).min_by_key(|&at| urgency(&self.tenants[at]))?,
        };
        let tenant = &mut self.tenants[at];
        let waiting = tenant.head;
        tenant.tag += charge(waiting.size.rows, waiting.weight);
        match tenant.rest.next() {
            Some((_, head)) => tenant.head = head,
            None => drop(self.tenants.swap_remove(at)),
        }
        Some(waiting)
    }
}
