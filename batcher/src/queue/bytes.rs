//! Bound on the memory of all requests that the batcher holds, and on each tenant's part of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::occupancy::THRESHOLD;
use super::tenants::Tenant;

/// Memory budget of all requests together; clones share it.
#[derive(Debug, Clone, Default)]
pub struct ByteBudget(Arc<Budget>);

#[derive(Debug, Default)]
struct Budget {
    used: AtomicUsize,
    limit: AtomicUsize,
    /// Whether a request has named a tenant; until then no parts are counted.
    has_tenants: AtomicBool,
    /// Bytes of requests without a tenant, counted since then.
    nobodys: AtomicUsize,
}

impl ByteBudget {
    /// Creates a budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        let budget = Self::default();
        budget.set_limit(limit);
        budget
    }

    /// Changes the limit, bytes. Shares that are taken already stay taken.
    pub fn set_limit(&self, limit: usize) {
        self.0.limit.store(limit, Ordering::Relaxed);
    }

    /// Creates an empty share of a tenant's part; `None`: of the part of requests without a tenant.
    pub fn empty(&self, tenant: Option<Arc<Tenant>>) -> QueuedBytes {
        if tenant.is_some() && !self.0.has_tenants.load(Ordering::Relaxed) {
            self.0.has_tenants.store(true, Ordering::Relaxed);
        }
        QueuedBytes { budget: self.clone(), tenant, bytes: 0, counted: 0 }
    }

    /// Takes a share of `bytes` bytes; `None` where the budget has not as many left.
    pub fn take(&self, bytes: usize) -> Option<QueuedBytes> {
        let mut share = self.empty(None);
        share.grow(bytes).then_some(share)
    }

    /// Returns how many bytes are taken.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Returns the limit, bytes.
    pub fn limit(&self) -> usize {
        self.0.limit.load(Ordering::Relaxed)
    }
}

/// A share of a [`ByteBudget`], given back on drop.
#[derive(Debug)]
pub struct QueuedBytes {
    budget: ByteBudget,
    tenant: Option<Arc<Tenant>>,
    bytes: usize,
    /// Part of `bytes` that is in the tenant's count.
    counted: usize,
}

impl QueuedBytes {
    /// Takes more. Returns false, and takes nothing, where the budget has not as many bytes left. A tenant may have a few
    /// times as much as is free (see `queue::occupancy`); its only request may have all that is left.
    #[must_use]
    pub fn grow(&mut self, bytes: usize) -> bool {
        let before = self.budget.0.used.fetch_add(bytes, Ordering::Relaxed);
        let free = self.budget.limit().checked_sub(before.saturating_add(bytes));
        let fits = free.is_some_and(|free| self.grow_part(bytes, free));
        if fits {
            self.bytes += bytes;
        } else {
            self.budget.0.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }

    /// Takes as many bytes again, for a copy that may outlive this share; `None` where the budget has not as many left.
    pub fn once_more(&self) -> Option<Self> {
        let mut share = self.budget.empty(self.tenant.clone());
        share.grow(self.bytes).then_some(share)
    }

    /// Returns the limit of the whole budget, bytes.
    pub fn limit(&self) -> usize {
        self.budget.limit()
    }

    fn grow_part(&mut self, bytes: usize, free: usize) -> bool {
        if !self.budget.0.has_tenants.load(Ordering::Relaxed) {
            return true;
        }
        let before = self.part().fetch_add(bytes, Ordering::Relaxed);
        let is_alone = before == self.counted;
        let fits = is_alone || before.saturating_add(bytes) <= free.saturating_mul(THRESHOLD);
        if fits {
            self.counted += bytes;
        } else {
            self.part().fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }

    fn part(&self) -> &AtomicUsize {
        self.tenant.as_ref().map_or(&self.budget.0.nobodys, |tenant| &tenant.bytes)
    }
}

impl Drop for QueuedBytes {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
        if self.counted > 0 {
            self.part().fetch_sub(self.counted, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::tenants::Tenants;
    use crate::settings::Settings;

    #[test]
    fn a_byte_budget_refuses_what_does_not_fit_and_takes_shares_back() {
        let budget = ByteBudget::new(10);
        let first = budget.take(8).unwrap();
        assert!(budget.take(3).is_none());
        let mut second = budget.take(1).unwrap();
        assert!(second.grow(1) && !second.grow(1));
        assert_eq!(budget.used(), 10);
        drop(first);
        assert!(budget.take(8).is_some());
    }

    #[test]
    fn a_tenant_leaves_room_for_the_next_one() {
        let (budget, tenants, settings) = (ByteBudget::new(900), Tenants::default(), Settings::default());
        let take = |name: &str, bytes| {
            let mut share = budget.empty(Some(tenants.of(name, &settings)));
            share.grow(bytes).then_some(share)
        };
        let mut flood: Vec<_> = std::iter::from_fn(|| take("a", 100)).collect();
        assert_eq!(flood.len(), 8, "eight times what is free");
        let modest = take("b", 50);
        assert!(modest.is_some());
        assert!(take("a", 1).is_none());
        flood.truncate(4);
        assert!(take("a", 100).is_some());
        drop((flood, modest));
        assert_eq!(budget.used(), 0);
        assert!(take("c", 900).is_some(), "the only request of a tenant may have all that there is");
    }
}
