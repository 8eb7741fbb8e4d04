//! Forms one batch of the requests of one key.

use std::collections::VecDeque;

use crate::{BatchSizes, Budget, Order, ServiceCurve, Size};

/// Limit and curve of one lane (the requests of one key).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lane {
    /// B\* of the lane ([`crate::batch_limit`]).
    pub limit_rows: u32,
    /// Service curve of the lane; `None` before the first batch.
    pub curve: Option<ServiceCurve>,
}

/// Limits of the batches of all lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits<'a> {
    /// Most bytes of request bodies in a batch.
    pub bytes: u64,
    /// Most tokens in a batch.
    pub tokens: u64,
    /// Sizes that a batch may have.
    pub sizes: &'a BatchSizes,
}

impl<'a> BatchLimits<'a> {
    /// Returns limits of sizes alone: bytes and tokens are not limited.
    pub fn of_sizes(sizes: &'a BatchSizes) -> Self {
        Self { bytes: u64::MAX, tokens: u64::MAX, sizes }
    }

    /// Returns the most that a batch of this lane may hold.
    fn budget(&self, lane: &Lane) -> Budget {
        Budget { rows: lane.limit_rows, bytes: self.bytes, tokens: self.tokens }
    }
}

/// Result of a cut: the requests of a lane to dispatch and those to drop. All others stay.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cut {
    /// Requests to be dispatched as one batch, in order.
    pub take: Vec<Order>,
    /// Requests that cannot make their deadlines, in order.
    pub drop: Vec<Order>,
    /// Size of all requests in `take` together.
    pub size: Size,
    /// Rows on the wire: more than `size.rows` where the batch is to be padded.
    pub sent_rows: u32,
}

/// Cuts one batch; call it when a slot is free. `waiting` gives place and size of each waiting request of one key, in
/// the order in which they are to be served. Only the requests of the batch, and those that cannot be part of it, are
/// read.
///
/// From the head on, requests are taken in order until the next one would not fit into the budget. A head whose
/// deadline is before `now_us` + L(rows of the batch that it would lead) is dropped and the next one leads; the
/// batch is never made smaller to save it. A request larger than the budget is sent alone. A later request (of a lower
/// class, or another tenant's) that cannot make its deadline in this batch leaves its room to the next one and stays in
/// the queue, unless even a batch of its own would be too late for it. Of the remaining requests, as many are sent as
/// make the cheapest of the allowed sizes (see [`BatchSizes`]).
///
/// L is the curve's 95th percentile, at the size to which the batch would be padded. Without a curve only requests
/// whose deadlines are over are dropped.
///
/// Where by the curve no request can make its deadline, the last one whose deadline is not over is sent alone: the slot
/// is free, and its batch corrects a curve that has become too slow.
pub fn cut(
    mut waiting: impl Iterator<Item = (Order, Size)>,
    now_us: u64,
    lane: &Lane,
    limits: &BatchLimits<'_>,
) -> Cut {
    let (budget, curve, sizes) = (limits.budget(lane), lane.curve.as_ref(), limits.sizes);
    let finish_us =
        |rows: u32| now_us.saturating_add(curve.map_or(0, |curve| curve.p95_us(sizes.sent_rows(rows))));
    let mut dropped: Vec<(Order, Size)> = Vec::new();
    let mut passed_over: Vec<(Order, Size)> = Vec::new();
    // The batch that the current head would lead.
    let mut batch: VecDeque<(Order, Size)> = VecDeque::new();
    let mut total = Size::default();
    let mut next = waiting.next();
    loop {
        while let Some((order, size)) = next
            && (batch.is_empty() || budget.holds(total.plus(size)))
        {
            batch.push_back((order, size));
            total = total.plus(size);
            next = waiting.next();
        }
        // The batch is as full as it gets. Check whether its head makes its deadline, and then the others.
        let finish_us = finish_us(total.rows);
        match batch.front() {
            Some((head, size)) if head.deadline_us < finish_us => {
                dropped.push((*head, *size));
                total = total.minus(*size);
                batch.pop_front();
            }
            _ if batch.iter().all(|(order, _)| order.deadline_us >= finish_us) => break,
            _ => batch.retain(|&(order, size)| {
                let makes_it = order.deadline_us >= finish_us;
                if !makes_it {
                    passed_over.push((order, size));
                    total = total.minus(size);
                }
                makes_it
            }),
        }
    }
    dropped.extend(passed_over.into_iter().filter(|(order, size)| order.deadline_us < finish_us(size.rows)));
    if batch.is_empty()
        && let Some(at) = dropped.iter().rposition(|(order, _)| order.deadline_us > now_us)
    {
        batch.push_back(dropped.remove(at));
    }
    let fit = sizes.fit(batch.iter().map(|(_, size)| *size), &budget, curve);
    batch.truncate(fit.requests);
    Cut {
        size: batch.iter().fold(Size::default(), |total, (_, size)| total.plus(*size)),
        take: batch.into_iter().map(|(order, _)| order).collect(),
        drop: dropped.into_iter().map(|(order, _)| order).collect(),
        sent_rows: fit.sent_rows,
    }
}
