//! What a queue has to expect, for the decision on arrival and for gauges.

use crate::{Admission, AdmitView, Lane, ServiceCurve, ShapeClass, admit_of_class, predicted_wait_us};

/// What the engine published last. It can be read where the engine is not at hand.
#[derive(Debug, Clone)]
pub struct Forecast {
    /// Common service curve of the model; `None` before the first batch.
    pub curve: Option<ServiceCurve>,
    /// Curve and B\* of the shape classes that have their own.
    pub lanes: Vec<(ShapeClass, Lane)>,
    /// Slots of ready model servers.
    pub slots: u32,
    /// Slots that are free.
    pub free_slots: u32,
    /// When the first busy slot is expected to be free, microseconds.
    pub slot_free_at_us: u64,
    /// B\*.
    pub limit_rows: u32,
    /// Rows that arrive per second; 0 where that is not measured.
    pub rows_per_second: f64,
    /// Part of the slots' time, 0 to 1, that the queue gets while those that use them now go on.
    pub share: f64,
    /// Ready model servers that report that they do not have the model; 0 where one has it.
    pub absent_at: usize,
}

impl Default for Forecast {
    fn default() -> Self {
        Self {
            curve: None,
            lanes: Vec::new(),
            slots: 0,
            free_slots: 0,
            slot_free_at_us: 0,
            limit_rows: 0,
            rows_per_second: 0.0,
            share: 1.0,
            absent_at: 0,
        }
    }
}

impl Forecast {
    /// Returns what is known of a request of `rows` rows with `rows_ahead` rows before it.
    pub fn view(&self, now_us: u64, deadline_us: u64, rows: u32, rows_ahead: u64) -> AdmitView {
        AdmitView {
            now_us,
            deadline_us,
            rows,
            rows_ahead,
            slots: self.slots,
            free_slots: self.free_slots,
            slot_free_in_us: self.slot_free_at_us.saturating_sub(now_us),
            limit_rows: self.limit_rows.max(1),
            rows_per_second: self.rows_per_second,
            share: self.share,
        }
    }

    /// Decides whether to take in the request of a view. `class`: shape class of its rows, where it may share a batch.
    pub fn admit(&self, view: &AdmitView, class: Option<ShapeClass>) -> Admission {
        let own = self.lanes.iter().find(|(of, _)| Some(*of) == class).map(|(_, lane)| *lane);
        let common = Lane { limit_rows: view.limit_rows, curve: self.curve };
        admit_of_class(view, &own.unwrap_or(common), self.curve.as_ref())
    }

    /// Predicts how long a request of one row with `rows_ahead` rows before it would wait, microseconds; `None` before
    /// there is a curve, or without slots.
    pub fn wait_us(&self, now_us: u64, rows_ahead: u64) -> Option<u64> {
        predicted_wait_us(&self.view(now_us, u64::MAX, 1, rows_ahead), self.curve.as_ref())
    }
}
