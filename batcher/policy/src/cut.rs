//! One batch out of the requests of one key.

use std::collections::VecDeque;

use crate::{BatchSizes, Budget, Order, ServiceCurve, Size};

/// What a cut needs to know of one lane (requests of one key).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lane {
    /// B\* of the lane ([`crate::batch_limit`]).
    pub limit_rows: u32,
    /// Its service curve, once there is one.
    pub curve: Option<ServiceCurve>,
}

/// What holds for the batches of all lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits<'a> {
    /// Most bytes of bodies.
    pub bytes: u64,
    /// Most tokens.
    pub tokens: u64,
    /// The sizes that a batch may have.
    pub sizes: &'a BatchSizes,
}

impl<'a> BatchLimits<'a> {
    /// Sizes alone count.
    pub fn of_sizes(sizes: &'a BatchSizes) -> Self {
        Self { bytes: u64::MAX, tokens: u64::MAX, sizes }
    }

    /// The most that a batch of this lane may hold.
    fn budget(&self, lane: &Lane) -> Budget {
        Budget { rows: lane.limit_rows, bytes: self.bytes, tokens: self.tokens }
    }
}

/// Which of the requests of a lane to dispatch and which to drop. All others stay.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cut {
    /// To be dispatched as one batch, in order.
    pub take: Vec<Order>,
    /// Those that cannot make their deadlines, in order.
    pub drop: Vec<Order>,
    /// Of all in `take` together.
    pub size: Size,
    /// Rows on the wire: more than `size.rows` where the batch is to be padded.
    pub sent_rows: u32,
}

/// Cuts one batch; call it when a slot is free. `waiting`: place and size of each waiting request of one key, in
/// the order in which they are to be served. Reads no more of it than the batch and what cannot ride in it.
///
/// From the head on, requests are taken in order until the next one would not fit into the budget. A head whose
/// deadline is before `now_us` + L(rows of the batch that it would lead) is dropped and the next one leads; the
/// batch is never made smaller to save it. A request larger than the budget goes alone. A later one (of a lower
/// class, or another tenant's) that cannot make its deadline in this batch leaves its room to the next and stays,
/// unless even a batch of its own would be too late for it. Of what is left, as much goes as makes the cheapest of
/// the allowed sizes (see [`BatchSizes`]).
///
/// L is the curve's 95th percentile, at the size to which the batch would be padded. Without a curve only what is
/// overdue is dropped.
///
/// Where the curve gives no request a chance, the last one that is not overdue goes alone: the slot is free, and
/// its batch is what corrects a curve that has become too slow.
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
        // The batch is as full as it gets: can its head make it, and then the others?
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
