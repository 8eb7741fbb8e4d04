//! One batch out of the requests of one key.

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

/// Cuts one batch; call it when a slot is free. `lane`: place and rows of each waiting request of one key, in order.
///
/// From the head on, requests are taken in order until the next one would not fit into `limit_rows`. A head whose deadline is before `now_us` + L(rows of the batch
/// that it would lead) is dropped and the next one leads; the batch is never made smaller to save it. A request of more than `limit_rows` goes alone.
pub fn cut(
    lane: impl Iterator<Item = (Order, u32)>,
    now_us: u64,
    limit_rows: u32,
    curve: Option<&ServiceCurve>,
) -> Cut {
    todo!()
}
