//! Memory of the answers that have come from model servers. A buffer counts for as long as anything holds it: a
//! client's task, the HTTP library, or a single slice of a batch's answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::Notify;

/// Size of the smallest buffer that is counted: counting a smaller one would cost as much memory as the buffer itself.
const LEAST_BYTES: usize = 1 << 10;

/// Limit on the bytes of all answers together. Bytes that have arrived are counted even beyond the limit; while it is
/// reached, no batch is sent and no request is passed on.
#[derive(Debug, Clone)]
pub struct AnswerBudget(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    used: AtomicUsize,
    limit: AtomicUsize,
    /// Notified when there is room again.
    room: Notify,
    /// Notified when the budget is full; the task that makes room waits for it.
    full: Notify,
}

impl Default for AnswerBudget {
    /// Creates a budget without a limit.
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl AnswerBudget {
    /// Creates a budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Budget {
            used: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
            room: Notify::new(),
            full: Notify::new(),
        }))
    }

    /// Changes the limit, in bytes.
    pub fn set_limit(&self, limit: usize) {
        self.0.limit.store(limit, Ordering::Relaxed);
        self.0.room.notify_waiters();
    }

    /// Returns the bytes that are held now.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Returns the limit in bytes.
    pub fn limit(&self) -> usize {
        self.0.limit.load(Ordering::Relaxed)
    }

    /// Returns whether the limit is reached.
    pub fn is_full(&self) -> bool {
        self.used() >= self.limit()
    }

    /// Counts `bytes` until the returned share is dropped.
    pub fn take(&self, bytes: usize) -> Share {
        self.0.used.fetch_add(bytes, Ordering::Relaxed);
        if self.is_full() {
            self.0.full.notify_one();
        }
        Share { budget: self.clone(), bytes }
    }

    /// Counts a buffer until the last slice of it is dropped.
    pub fn charge(&self, buffer: Bytes) -> Bytes {
        if buffer.len() < LEAST_BYTES {
            return buffer;
        }
        let _share = self.take(buffer.len());
        Bytes::from_owner(Charged { buffer, _share })
    }

    /// Counts those chunks that are not slices of `counted`, which is counted already.
    pub fn charge_others(&self, chunks: &mut [Bytes], counted: &Bytes) {
        let counted = counted.as_ptr_range();
        for chunk in chunks {
            if !counted.contains(&chunk.as_ptr()) {
                *chunk = self.charge(std::mem::take(chunk));
            }
        }
    }

    /// Waits until there is room for another answer.
    pub async fn room(&self) {
        loop {
            let mut room = std::pin::pin!(self.0.room.notified());
            room.as_mut().enable();
            if !self.is_full() {
                return;
            }
            self.0.full.notify_one();
            room.await;
        }
    }

    /// Waits until the budget is full.
    pub async fn full(&self) {
        self.0.full.notified().await;
    }
}

/// Bytes of an [`AnswerBudget`], given back on drop.
#[derive(Debug)]
pub struct Share {
    budget: AnswerBudget,
    bytes: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        let before = self.budget.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
        if before >= self.budget.limit() {
            self.budget.0.room.notify_waiters();
        }
    }
}

/// A buffer and its share of the budget.
struct Charged {
    buffer: Bytes,
    _share: Share,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::Poll;

    use super::*;

    #[test]
    fn a_single_slice_counts_for_the_whole_buffer_that_it_keeps() {
        let budget = AnswerBudget::new(1 << 20);
        let whole = budget.charge(Bytes::from(vec![0; 100_000]));
        let mut chunks = [whole.slice(10..20), Bytes::from(vec![0; 5000]), Bytes::from(vec![0; 10])];
        budget.charge_others(&mut chunks, &whole);
        drop(whole);
        assert_eq!(budget.used(), 105_000, "the small one is not counted");
        let [slice, own, _] = chunks;
        drop(own);
        assert_eq!(budget.used(), 100_000);
        drop(slice);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn whoever_waits_for_room_goes_on_when_there_is_some() {
        let budget = AnswerBudget::new(10);
        budget.room().await;
        let (first, second) = (budget.take(9), budget.take(9));
        let mut waiting = std::pin::pin!(budget.room());
        let mut poll = async || std::future::poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx))).await;
        assert!(poll().await.is_pending());
        budget.full().await;
        drop(first);
        assert!(poll().await.is_ready());
        drop(second);
        assert_eq!(budget.used(), 0);
    }
}
