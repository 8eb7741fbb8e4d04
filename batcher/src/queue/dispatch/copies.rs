//! A batch that runs far beyond its predicted time: its requests are tried once more, elsewhere and in halves, while
//! its call goes on. The first good answer counts. Inference may run twice; only what was merged is tried so.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::queue::QueueEvent;
use crate::queue::{Entry, ModelHandle};

/// The call that is under way takes far too long. Earlier calls of the same requests are given up: they take too long
/// because of one that is in this call too, and so only two slots are ever held by it. Returns the requests, and what
/// gives up this call once it has copies.
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
