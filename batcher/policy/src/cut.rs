//! One batch out of the requests of one key.

use std::collections::VecDeque;

use crate::{Order, ServiceCurve};

/// Which of the requests of a lane to dispatch and which to drop. All others stay.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cut {
    /// To be dispatched as one batch, in order.
    pub take: Vec<Order>,
    /// Heads that cannot make their deadlines, in order.
    pub drop: Vec<Order>,
    /// Rows of `take`.
    pub rows: u32,
}

/// Cuts one batch; call it when a slot is free. `lane`: place and rows of each waiting request of one key, in
/// order. Reads no more of it than the batch and what is dropped before it.
///
/// From the head on, requests are taken in order until the next one would not fit into `limit_rows`. A head whose
/// deadline is before `now_us` + L(rows of the batch that it would lead) is dropped and the next one leads; the
/// batch is never made smaller to save it. A request of more than `limit_rows` goes alone. A later one (of a lower
/// class) that cannot make its deadline in this batch stays, unless even a batch of its own would be too late for
/// it.
///
/// L is the curve's 95th percentile. Without a curve only what is overdue is dropped.
///
/// Where the curve gives no request a chance, the last one that is not overdue goes alone: the slot is free, and
/// its batch is what corrects a curve that has become too slow.
pub fn cut(
    mut lane: impl Iterator<Item = (Order, u32)>,
    now_us: u64,
    limit_rows: u32,
    curve: Option<&ServiceCurve>,
) -> Cut {
    let finish_us = |rows: u32| now_us.saturating_add(curve.map_or(0, |curve| curve.p95_us(rows)));
    let mut cut = Cut::default();
    let mut dropped_rows = Vec::new();
    // The batch that the current head would lead.
    let mut batch: VecDeque<(Order, u32)> = VecDeque::new();
    let mut rows = 0u32;
    let mut next = lane.next();
    loop {
        while let Some((order, own_rows)) = next
            && (batch.is_empty() || rows.checked_add(own_rows).is_some_and(|rows| rows <= limit_rows))
        {
            batch.push_back((order, own_rows));
            rows = rows.saturating_add(own_rows);
            next = lane.next();
        }
        // The batch is as full as it gets: can its head make it?
        match batch.front() {
            Some((head, head_rows)) if head.deadline_us < finish_us(rows) => {
                cut.drop.push(*head);
                dropped_rows.push(*head_rows);
                rows -= head_rows;
                batch.pop_front();
            }
            _ => break,
        }
    }
    let finish_us_of_batch = finish_us(rows);
    for (order, own_rows) in batch {
        if order.deadline_us >= finish_us_of_batch {
            cut.take.push(order);
            cut.rows = cut.rows.saturating_add(own_rows);
        } else if order.deadline_us < finish_us(own_rows) {
            cut.drop.push(order);
            dropped_rows.push(own_rows);
        }
    }
    if cut.take.is_empty()
        && let Some(at) = cut.drop.iter().rposition(|order| order.deadline_us > now_us)
    {
        let (order, rows) = (cut.drop.remove(at), dropped_rows.remove(at));
        cut.take.push(order);
        cut.rows = rows;
    }
    cut
}
