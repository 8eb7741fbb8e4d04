//! How much waits, of whom, as everybody sees it; and who may add to it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sluice_batch_policy::{Backlog, Flow};

use super::Entry;
use super::tenants::NOBODY;

/// A tenant may have so many times as much in the queue as is free: a dynamic threshold (Choudhury and Hahne,
/// "Dynamic queue length thresholds for shared-memory packet switches", 1998). One alone gets 8/9 of the queue; the
/// rest is there for the next.
pub(super) const THRESHOLD: usize = 8;

/// What waits in one model's queue, and what was served lately.
#[derive(Debug, Default)]
pub(super) struct Occupancy {
    rows: AtomicU64,
    requests: AtomicUsize,
    /// Whether requests have come that may differ in class or tenant. Until then one count says all.
    is_ranked: AtomicBool,
    backlog: Mutex<Backlog>,
}

impl Occupancy {
    /// From now on classes or tenants play a part: one count no longer says all.
    pub(super) fn rank(&self) {
        // Read first: it is said with each request, and nearly always said already.
        if !self.is_ranked.load(Ordering::Relaxed) {
            self.is_ranked.store(true, Ordering::Relaxed);
        }
    }

    /// Counts a request that is to wait; false where its queue of at most `limit` requests, or its tenant's part of
    /// it, is full.
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

    /// A request that was in flight waits again: it had its place before.
    pub(super) fn come_back(&self, entry: &mut Entry) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.rows.fetch_add(u64::from(entry.size.rows), Ordering::Relaxed);
        entry.is_ranked = self.is_ranked.load(Ordering::Relaxed);
        if entry.is_ranked {
            self.backlog().enter(entry.flow, entry.size.rows);
        }
    }

    /// A request no longer waits.
    pub(super) fn leave(&self, entry: &Entry) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
        self.rows.fetch_sub(u64::from(entry.size.rows), Ordering::Relaxed);
        if entry.is_ranked {
            self.backlog().leave(entry.flow, entry.size.rows);
        }
    }

    /// These requests were dispatched as a batch.
    pub(super) fn served<'a>(&self, batch: impl Iterator<Item = &'a Entry> + Clone) {
        if self.is_ranked.load(Ordering::Relaxed) {
            self.backlog().served(batch.map(|entry| (entry.flow, entry.size.rows)));
        }
    }

    /// Rows that wait.
    pub(super) fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Rows that will be served before a request that arrives now.
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
