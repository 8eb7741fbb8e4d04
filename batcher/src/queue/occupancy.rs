//! Counts of the requests that wait in one model's queue, which every thread can read; decides whether one more may wait.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sluice_batch_policy::{Backlog, Flow};

use super::Entry;
use super::tenants::NOBODY;

/// Maximum requests of one tenant in the queue, as a multiple of the free places: a dynamic threshold (Choudhury and Hahne,
/// "Dynamic queue length thresholds for shared-memory packet switches", 1998). One tenant alone gets 8/9 of the
/// queue; the rest is left for the next one.
pub(super) const THRESHOLD: usize = 8;

/// Requests that wait in one model's queue, and the tenants that were served lately.
#[derive(Debug, Default)]
pub(super) struct Occupancy {
    rows: AtomicU64,
    requests: AtomicUsize,
    /// Whether requests have arrived that may differ in class or tenant. Until then the plain counts are enough.
    is_ranked: AtomicBool,
    backlog: Mutex<Backlog>,
}

impl Occupancy {
    /// Counts by class and tenant from now on.
    pub(super) fn rank(&self) {
        // Read first, because this is called for each request, and a store would contend for the cache line.
        if !self.is_ranked.load(Ordering::Relaxed) {
            self.is_ranked.store(true, Ordering::Relaxed);
        }
    }

    /// Counts a request that is to wait. Returns false, and does not count it, where the queue of at most `limit` requests, or
    /// its tenant's part of it, is full.
    #[must_use]
    pub(super) fn enter(&self, entry: &mut Entry, limit: usize) -> bool {
        let before = self.requests.fetch_add(1, Ordering::Relaxed);
        if before >= limit || !self.enter_ranked(entry, limit - before) {
            self.requests.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        self.rows.fetch_add(u64::from(entry.size.rows), Ordering::Relaxed);
        true
    }

    fn enter_ranked(&self, entry: &mut Entry, free: usize) -> bool {
        if !self.is_ranked.load(Ordering::Relaxed) {
            return true;
        }
        let mut backlog = self.backlog();
        let tenant = entry.flow.tenant;
        if backlog.has_others_than(NOBODY)
            && backlog.requests_of(tenant) >= THRESHOLD.saturating_mul(free) as u64
        {
            return false;
        }
        backlog.enter(entry.flow, entry.size.rows);
        entry.is_ranked = true;
        true
    }

    /// Counts a request that was in flight and waits again; no limit applies, because it had its place before.
    pub(super) fn come_back(&self, entry: &mut Entry) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.rows.fetch_add(u64::from(entry.size.rows), Ordering::Relaxed);
        entry.is_ranked = self.is_ranked.load(Ordering::Relaxed);
        if entry.is_ranked {
            self.backlog().enter(entry.flow, entry.size.rows);
        }
    }

    /// Removes a request that no longer waits from the counts.
    pub(super) fn leave(&self, entry: &Entry) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
        self.rows.fetch_sub(u64::from(entry.size.rows), Ordering::Relaxed);
        if entry.is_ranked {
            self.backlog().leave(entry.flow, entry.size.rows);
        }
    }

    /// Records that these requests were dispatched as a batch.
    pub(super) fn served<'a>(&self, batch: impl Iterator<Item = &'a Entry> + Clone) {
        if self.is_ranked.load(Ordering::Relaxed) {
            self.backlog().served(batch.map(|entry| (entry.flow, entry.size.rows)));
        }
    }

    /// Returns how many rows wait.
    pub(super) fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Returns how many rows will be served before a request of this flow and size that arrives now.
    pub(super) fn rows_ahead(&self, flow: Flow, rows: u32) -> u64 {
        if !self.is_ranked.load(Ordering::Relaxed) {
            return self.rows();
        }
        let backlog = self.backlog();
        // Those that came before there were ranks are before all.
        backlog.rows_ahead(flow, rows) + self.rows().saturating_sub(backlog.rows())
    }

    fn backlog(&self) -> MutexGuard<'_, Backlog> {
        // Plain counts: a panic elsewhere does not make them worse.
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
