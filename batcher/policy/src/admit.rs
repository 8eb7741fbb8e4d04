//! The decision on arrival.

use crate::ServiceCurve;

/// What is known when a request arrives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdmitView {
    /// Now, microseconds.
    pub now_us: u64,
    /// When its answer is due, microseconds; [`crate::NO_DEADLINE`] without one.
    pub deadline_us: u64,
    /// Its rows.
    pub rows: u32,
    /// Rows that will be served before it ([`crate::WaitQueue::rows_ahead`]).
    pub rows_ahead: u64,
    /// Batches that the upstreams can run at a time. 0: none is there (holding is then the owner's decision).
    pub slots: u32,
    /// Slots that are free now.
    pub free_slots: u32,
    /// Predicted time until the first busy slot is free, microseconds; 0 when unknown. Used only when `free_slots` is 0.
    pub slot_free_in_us: u64,
    /// B\* ([`crate::batch_limit`]).
    pub limit_rows: u32,
}

/// Whether to take a request in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Take it in. The predicted finish is `None` where there is no curve or no slot yet: then only the queue's own bound holds.
    Admit {
        /// When its answer is expected, microseconds.
        predicted_finish_us: Option<u64>,
    },
    /// Reject it (429, RESOURCE_EXHAUSTED).
    Reject {
        /// When its answer would have come, microseconds.
        predicted_finish_us: u64,
        /// After how long what waits now will have been served, microseconds.
        retry_after_us: u64,
    },
}

impl Admission {
    /// `Retry-After` in whole seconds, rounded up, at least 1; `None` for an admitted request.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Self::Admit { .. } => None,
            Self::Reject { retry_after_us, .. } => Some(retry_after_us.div_ceil(1_000_000).max(1)),
        }
    }
}

/// Decides on arrival: admit when the predicted finish is within the deadline.
pub fn admit(view: &AdmitView, curve: Option<&ServiceCurve>) -> Admission {
    todo!()
}

/// Predicted time from now until the request would be dispatched, microseconds (the gauge `sluice_batcher_predicted_wait_seconds`);
/// `None` where there is no curve or no slot yet. Its deadline is not looked at.
pub fn predicted_wait_us(view: &AdmitView, curve: Option<&ServiceCurve>) -> Option<u64> {
    todo!()
}
