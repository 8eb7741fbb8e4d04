//! Memory of the requests in the batcher's hands, bounded; with a bound of their own for tenants.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::occupancy::THRESHOLD;
use super::tenants::Tenant;

/// So many bytes for all requests together.
#[derive(Debug, Clone, Default)]
pub struct ByteBudget(Arc<Budget>);

#[derive(Debug, Default)]
struct Budget {
    used: AtomicUsize,
    limit: AtomicUsize,
    /// Whether tenants have come; until then nobody's part is counted.
    has_tenants: AtomicBool,
    /// What requests without a tenant have taken since.
    nobodys: AtomicUsize,
}

impl ByteBudget {
    /// A budget of so many bytes.
    pub fn new(limit: usize) -> Self {
        let budget = Self::default();
        budget.set_limit(limit);
        budget
    }

    /// From now on so many bytes. What is taken already stays taken.
    pub fn set_limit(&self, limit: usize) {
        self.0.limit.store(limit, Ordering::Relaxed);
    }

    /// A share that has nothing yet, of a tenant's part.
    pub fn empty(&self, tenant: Option<Arc<Tenant>>) -> QueuedBytes {
        if tenant.is_some() && !self.0.has_tenants.load(Ordering::Relaxed) {
            self.0.has_tenants.store(true, Ordering::Relaxed);
        }
        QueuedBytes { budget: self.clone(), tenant, bytes: 0, counted: 0 }
    }

    /// Takes a share; `None` when it is not there.
    pub fn take(&self, bytes: usize) -> Option<QueuedBytes> {
        let mut share = self.empty(None);
        share.grow(bytes).then_some(share)
    }

    /// Bytes that are taken.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Bytes that there are.
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
    /// Those that are in the tenant's count.
    counted: usize,
}

impl QueuedBytes {
    /// Takes more; false, and as it was, where that is not there. A tenant may have a few times as much as is free
    /// (see `queue::occupancy`); its only request may have what there is.
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

    /// As much once more, for a copy that may outlive this; `None` where that is not there.
    pub fn once_more(&self) -> Option<Self> {
        let mut share = self.budget.empty(self.tenant.clone());
        share.grow(self.bytes).then_some(share)
    }

    /// Bytes that there are for all.
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
