//! Copies of the requests of a batch that runs far beyond its predicted time: they are sent to another slot, in halves,
//! while the call goes on, and the first good answer counts. Inference may run twice; only merged requests are copied.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::queue::QueueEvent;
use crate::queue::{Entry, ModelHandle};

/// Copies the requests of a call that takes far too long, and hands the copies to the owner. Earlier calls of the same
/// requests are given up: a request that is in this call too makes them slow, and it must not hold more than two slots.
/// Returns the requests, and the token that gives up this call; `None` where nothing was copied.
#[allow(clippy::vec_box)] // As they come from the queue.
pub(super) fn make(
    handle: &Arc<ModelHandle>,
    number: u64,
    entries: Vec<Box<Entry>>,
) -> (Vec<Box<Entry>>, Option<CancellationToken>) {
    for elder in entries.iter().filter_map(|entry| entry.suspicion.elder.as_ref()) {
        elder.cancel();
    }
    let give_up = CancellationToken::new();
    let mut copies = Vec::new();
    let now_us = handle.clock.now_us();
    let is_several = entries.len() > 1;
    let entries = entries.into_iter().map(|entry| {
        if !is_several || entry.is_cancelled() {
            return entry;
        }
        let (entry, copy) = entry.copied();
        copies.extend(copy.map(|mut copy| {
            copy.suspicion.raise(now_us);
            copy.suspicion.elder = Some(give_up.clone());
            copy
        }));
        entry
    });
    let entries: Vec<Box<Entry>> = entries.collect();
    let has_copies = !copies.is_empty();
    if has_copies {
        let requests = entries.len();
        tracing::info!(model = %handle.model, requests, "A batch takes far longer than predicted; its requests are sent again in halves to a free slot.");
    }
    handle.tell(QueueEvent::Overdue { number, copies });
    (entries, has_copies.then_some(give_up))
}
