//! Decides on arrival whether to admit a request.

use crate::{Lane, ServiceCurve};

/// Smallest part of the slots, 0 to 1, that a prediction assumes for a queue, so that no prediction is infinite.
const LEAST_SHARE: f64 = 0.02;

/// State of queue and slots at the arrival of a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdmitView {
    /// Now, microseconds.
    pub now_us: u64,
    /// Deadline of the answer, microseconds; [`crate::NO_DEADLINE`] without one.
    pub deadline_us: u64,
    /// Rows of the request.
    pub rows: u32,
    /// Rows that will be served before the request ([`crate::Backlog::rows_ahead`]).
    pub rows_ahead: u64,
    /// Slots of all model servers. 0: there is no model server, and the caller decides whether to hold the request.
    pub slots: u32,
    /// Slots that are free now.
    pub free_slots: u32,
    /// Predicted time until the first busy slot is free for this queue, microseconds; 0 when unknown. It includes the
    /// grants that others get before ([`crate::SlotShare::before_turn_of_us`]). Pass [`ServiceCurve::p95_us`] of the
    /// running batch less its age: with the mean instead, admission promises too much. Used only when `free_slots` is
    /// 0.
    pub slot_free_in_us: u64,
    /// B\* ([`crate::batch_limit`]).
    pub limit_rows: u32,
    /// Rows that arrive per second ([`crate::ArrivalRate`]); 0 where that is not known. Rows that arrive before a slot
    /// is free join the batch.
    pub rows_per_second: f64,
    /// Part of all slot time, 0 to 1, that this queue gets while the others that use the slots now go on
    /// ([`crate::SlotShare::part_of`]); 1 where it is alone.
    pub share: f64,
}

/// Decision whether to admit a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Admit the request. The predicted finish is `None` where there is no curve or no slot yet: then only the queue's
    /// own bound holds.
    Admit {
        /// Instant at which the answer is expected, microseconds.
        predicted_finish_us: Option<u64>,
    },
    /// Reject the request (429, RESOURCE_EXHAUSTED).
    Reject {
        /// Instant at which the answer would have been expected, microseconds.
        predicted_finish_us: u64,
        /// Time after which all that waits now will have been served, microseconds.
        retry_after_us: u64,
    },
}

impl Admission {
    /// Returns the instant at which the answer is, or would have been, expected, microseconds; `None` where it cannot
    /// be predicted.
    pub fn predicted_finish_us(&self) -> Option<u64> {
        match self {
            Self::Admit { predicted_finish_us } => *predicted_finish_us,
            Self::Reject { predicted_finish_us, .. } => Some(*predicted_finish_us),
        }
    }

    /// Returns the `Retry-After` in whole seconds, rounded up, at least 1; `None` for an admitted request.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Self::Admit { .. } => None,
            Self::Reject { retry_after_us, .. } => Some(retry_after_us.div_ceil(1_000_000).max(1)),
        }
    }
}

/// Decides on arrival: admit when the predicted finish is within the deadline, or when a free slot takes the request
/// at once and its deadline is not over. Using an idle slot costs no other request anything, and its batch is the only
/// thing that can correct a curve that has become too slow: if such requests were rejected too, one bad minute would
/// lead to rejections for ever.
///
/// The prediction uses the curve's 95th percentile, and expects other rows in the request's own batch: a full batch
/// where a whole batch is ahead of the request, else as many rows as the running batch seems to have, judged by its
/// remaining time (in a steady state, the rows that arrive during one batch fill the next).
pub fn admit(view: &AdmitView, curve: Option<&ServiceCurve>) -> Admission {
    admit_of_class(view, &Lane { limit_rows: view.limit_rows, curve: curve.copied() }, curve)
}

/// Decides as [`admit`] does for a request whose own batch has another curve and B\* (`own`) than the batches ahead of
/// it (`ahead`, and the view's limit).
pub fn admit_of_class(view: &AdmitView, own: &Lane, ahead: Option<&ServiceCurve>) -> Admission {
    let Some(prediction) = ahead.and_then(|ahead| predict(view, own, ahead)) else {
        return Admission::Admit { predicted_finish_us: None };
    };
    let predicted_finish_us =
        view.now_us.saturating_add(prediction.wait_us).saturating_add(prediction.service_us);
    let runs_at_once = prediction.wait_us == 0 && view.free_slots > 0 && view.now_us < view.deadline_us;
    if predicted_finish_us <= view.deadline_us || runs_at_once {
        Admission::Admit { predicted_finish_us: Some(predicted_finish_us) }
    } else {
        Admission::Reject { predicted_finish_us, retry_after_us: prediction.wait_us.max(1) }
    }
}

/// Predicts the time from now until the request would be dispatched, microseconds (the gauge
/// `sluice_batcher_predicted_wait_seconds`); `None` where there is no curve or no slot yet. The deadline does not
/// matter.
pub fn predicted_wait_us(view: &AdmitView, curve: Option<&ServiceCurve>) -> Option<u64> {
    let own = Lane { limit_rows: view.limit_rows, curve: curve.copied() };
    predict(view, &own, curve?).map(|prediction| prediction.wait_us)
}

struct Prediction {
    wait_us: u64,
    service_us: u64,
}

fn predict(view: &AdmitView, own: &Lane, ahead: &ServiceCurve) -> Option<Prediction> {
    if view.slots == 0 {
        return None;
    }
    let limit = u64::from(view.limit_rows.max(1));
    let rows = u64::from(view.rows.max(1));
    let up_to_here = view.rows_ahead.saturating_add(rows);
    // The request's batch is the one in which its last row finds room; the batches before are full.
    let batches_ahead = (up_to_here - 1) / limit;
    let full_us = ahead.p95_us(view.limit_rows.max(1));
    let wait_us = match batches_ahead.checked_sub(u64::from(view.free_slots)) {
        // A free slot takes the batch at once.
        None => 0,
        // Slots become free one after the other, evenly spread.
        Some(queued) => {
            // The batches ahead, which are full, take the free slots.
            let until_first = if view.free_slots == 0 { view.slot_free_in_us } else { full_us };
            // Other queues take their part of the slots. The cast saturates.
            let slots = f64::from(view.slots) * view.share.clamp(LEAST_SHARE, 1.0);
            let rounds_us = (queued as f64 * full_us as f64 / slots).ceil() as u64;
            until_first.saturating_add(rounds_us)
        }
    };
    let own_limit = u64::from(own.limit_rows.max(1));
    let batch_rows = match (batches_ahead, view.free_slots) {
        (0, 0) => up_to_here.saturating_add(company(view, ahead)).min(own_limit).max(rows),
        (0, _) => up_to_here.min(own_limit).max(rows),
        _ => own_limit.max(rows),
    };
    let service_us = own.curve.as_ref()?.p95_us(u32::try_from(batch_rows).unwrap_or(u32::MAX));
    Some(Prediction { wait_us, service_us })
}

/// Predicts the rows that arrive before a slot is free and join the batch.
fn company(view: &AdmitView, ahead: &ServiceCurve) -> u64 {
    let by_rate = view.rows_per_second * view.slot_free_in_us as f64 / crate::US_PER_SECOND;
    // The cast saturates.
    rows_within(ahead, view.slot_free_in_us).max(by_rate as u64)
}

/// Returns the rows of a batch that takes `us` microseconds; 0 where even an empty batch takes longer.
fn rows_within(curve: &ServiceCurve, us: u64) -> u64 {
    let seconds = us as f64 / crate::US_PER_SECOND - curve.alpha_seconds;
    // The cast saturates; without a time per row any number of rows fits.
    if seconds <= 0.0 { 0 } else { (seconds / curve.beta_seconds.max(f64::MIN_POSITIVE)) as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// L(8) = 28 ms.
    const CURVE: ServiceCurve =
        ServiceCurve { alpha_seconds: 0.020, beta_seconds: 0.001, residual_p95_ratio: 0.0, samples: 100 };

    const IDLE: AdmitView = AdmitView {
        now_us: 1_000_000,
        deadline_us: 1_100_000,
        rows: 1,
        rows_ahead: 0,
        slots: 1,
        free_slots: 1,
        slot_free_in_us: 0,
        limit_rows: 8,
        rows_per_second: 0.0,
        share: 1.0,
    };

    #[test]
    fn an_idle_server_takes_a_request_at_once() {
        assert_eq!(admit(&IDLE, Some(&CURVE)), Admission::Admit { predicted_finish_us: Some(1_021_000) });
        assert_eq!(predicted_wait_us(&IDLE, Some(&CURVE)), Some(0));
    }

    #[test]
    fn a_curve_that_promises_nothing_in_time_does_not_keep_an_idle_server_idle() {
        let slow = ServiceCurve { alpha_seconds: 3.0, ..CURVE };
        assert!(matches!(admit(&IDLE, Some(&slow)), Admission::Admit { .. }));
        let busy = AdmitView { free_slots: 0, ..IDLE };
        assert!(matches!(admit(&busy, Some(&slow)), Admission::Reject { .. }));
        let behind_a_batch = AdmitView { rows_ahead: 8, ..IDLE };
        assert!(matches!(admit(&behind_a_batch, Some(&slow)), Admission::Reject { .. }));
        let overdue = AdmitView { deadline_us: IDLE.now_us, ..IDLE };
        assert!(matches!(admit(&overdue, Some(&slow)), Admission::Reject { .. }));
    }

    #[test]
    fn a_request_waits_for_the_running_batch_and_the_full_ones_before_its_own() {
        let view = AdmitView { rows_ahead: 17, free_slots: 0, slot_free_in_us: 5_000, ..IDLE };
        assert_eq!(predicted_wait_us(&view, Some(&CURVE)), Some(5_000 + 2 * 28_000));
        assert_eq!(admit(&view, Some(&CURVE)), Admission::Admit { predicted_finish_us: Some(1_089_000) });
        let two_slots = AdmitView { slots: 2, ..view };
        assert_eq!(predicted_wait_us(&two_slots, Some(&CURVE)), Some(5_000 + 28_000));
    }

    #[test]
    fn what_others_take_of_the_slots_is_waited_for() {
        let view = AdmitView { rows_ahead: 17, free_slots: 0, slot_free_in_us: 5_000, ..IDLE };
        let shared = AdmitView { share: 0.5, ..view };
        assert_eq!(predicted_wait_us(&shared, Some(&CURVE)), Some(5_000 + 4 * 28_000));
        assert!(matches!(admit(&view, Some(&CURVE)), Admission::Admit { .. }));
        assert!(matches!(admit(&shared, Some(&CURVE)), Admission::Reject { .. }));
        // Two slots shared by two are as good as one.
        assert_eq!(
            predicted_wait_us(&AdmitView { slots: 2, ..shared }, Some(&CURVE)),
            predicted_wait_us(&view, Some(&CURVE))
        );
        let no_number = AdmitView { share: f64::NAN, ..view };
        assert!(predicted_wait_us(&no_number, Some(&CURVE)).is_some());
    }

    #[test]
    fn as_many_rows_ride_along_as_come_until_a_slot_is_free() {
        let view = AdmitView { free_slots: 0, slots: 4, slot_free_in_us: 10_000, ..IDLE };
        assert_eq!(admit(&view, Some(&CURVE)).predicted_finish_us(), Some(1_000_000 + 10_000 + 21_000));
        let frequent = AdmitView { rows_per_second: 300.0, ..view };
        assert_eq!(admit(&frequent, Some(&CURVE)).predicted_finish_us(), Some(1_000_000 + 10_000 + 24_000));
    }

    #[test]
    fn company_is_expected_while_a_batch_runs() {
        // 26.5 ms left: a batch of at least 6 rows is running, so about 6 more will ride along.
        let view = AdmitView { free_slots: 0, slot_free_in_us: 26_500, ..IDLE };
        assert_eq!(admit(&view, Some(&CURVE)), Admission::Admit { predicted_finish_us: Some(1_053_500) });
        assert_eq!(
            admit(&AdmitView { slot_free_in_us: 900_000, ..view }, Some(&CURVE)).retry_after_seconds(),
            Some(1)
        );
    }

    #[test]
    fn a_request_that_would_be_late_is_told_when_to_come_back() {
        let view = AdmitView { rows_ahead: 400, free_slots: 0, slot_free_in_us: 5_000, ..IDLE };
        let admission = admit(&view, Some(&CURVE));
        let wait_us = 5_000 + 50 * 28_000;
        assert_eq!(
            admission,
            Admission::Reject { predicted_finish_us: 1_000_000 + wait_us + 28_000, retry_after_us: wait_us }
        );
        assert_eq!(admission.retry_after_seconds(), Some(2));
    }

    #[test]
    fn a_request_of_another_class_waits_by_the_common_curve_and_runs_by_its_own() {
        let view = AdmitView { rows_ahead: 8, free_slots: 0, slot_free_in_us: 5_000, ..IDLE };
        let slow = ServiceCurve { alpha_seconds: 0.050, beta_seconds: 0.005, ..CURVE };
        let own = Lane { limit_rows: 4, curve: Some(slow) };
        // 5 ms for the running batch, 28 ms for the one before its own; 50 + 4·5 ms for its own.
        let admission = admit_of_class(&view, &own, Some(&CURVE));
        let predicted_finish_us = 1_000_000 + 5_000 + 28_000 + 70_000;
        assert_eq!(admission, Admission::Reject { predicted_finish_us, retry_after_us: 33_000 });
        assert!(matches!(admit(&view, Some(&CURVE)), Admission::Admit { .. }));
    }

    #[test]
    fn what_cannot_be_predicted_is_admitted() {
        let unknown = Admission::Admit { predicted_finish_us: None };
        assert_eq!(admit(&AdmitView { rows_ahead: 1_000_000, ..IDLE }, None), unknown);
        assert_eq!(admit(&AdmitView { slots: 0, free_slots: 0, ..IDLE }, Some(&CURVE)), unknown);
    }

    #[test]
    fn extreme_values_do_not_overflow() {
        let view = AdmitView {
            rows_ahead: u64::MAX,
            rows: u32::MAX,
            free_slots: 0,
            slot_free_in_us: u64::MAX,
            deadline_us: crate::NO_DEADLINE,
            ..IDLE
        };
        assert!(matches!(admit(&view, Some(&CURVE)), Admission::Admit { .. }), "no deadline, no rejection");
    }
}
