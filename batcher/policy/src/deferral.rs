//! Decides whether to wait for a larger batch although a slot is free: with several slots, and only where it pays.
//!
//! With S slots, a queue that dispatches all waiting rows as soon as a slot is free sends bunches: one large batch,
//! then S − 1 batches of the rows that arrived in the meantime, which are small and cost nearly as much. Where batches
//! are sent evenly spread instead, one every L(b)/S, each has the *balanced* size b = λ·L(b)/S, and a request waits for
//! no more than this interval before it is sent: (1 + 1/S)·L(b) instead of the 2·L(b) of [`crate::batch_limit`]. So
//! batches may be larger within the same objective. (Deferred batch scheduling: Symphony, arXiv 2308.07470; the
//! balanced size in place of its latest start keeps the latency low where the objective would allow more.)
//!
//! At exactly the balanced size all slots are busy all the time, and random arrivals alone make a queue. So all
//! formulas here use only a part of the slots ([`ROOM`]).

use crate::{BatchSizes, ServiceCurve, batch_limit, to_us};

/// Timers tick in milliseconds: a wait that must end in time ends one tick earlier.
const TICK_US: u64 = 1000;
/// Part of the slots that the formulas use. By simulation (`tests/policy/deferral.rs`) this part allows the most load
/// within the objective; with 0.9 that load is less by a fifth.
const ROOM: f64 = 0.82;
/// Smallest balanced batch, in rows, for which to wait: below it hardly any other row arrives meanwhile.
const LEAST_ROWS: f64 = 2.0;

/// State of a queue and its slots.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DeferView {
    /// Now, microseconds.
    pub now_us: u64,
    /// Instant since which the first waiting request has waited, microseconds.
    pub since_us: u64,
    /// Earliest deadline of all waiting requests, microseconds.
    pub deadline_us: u64,
    /// Rows that wait.
    pub rows: u64,
    /// Rows that arrive per second ([`crate::ArrivalRate`]).
    pub rows_per_second: f64,
    /// Slots that the queue gets: a fraction where it shares them with other queues.
    pub slots: f64,
    /// B\* under deferral ([`deferred_limit`]).
    pub limit_rows: u32,
}

/// Returns B\* where batches are sent evenly spread over `slots` slots: the most rows b with
/// (1 + 1/S)·L(b) ≤ `objective_us`, among `sizes`. For one slot or less it is that of [`batch_limit`].
pub fn deferred_limit(
    curve: Option<&ServiceCurve>,
    objective_us: u64,
    sizes: &BatchSizes,
    slots: f64,
) -> u32 {
    batch_limit(curve, spread_objective_us(objective_us, slots), sizes)
}

/// Returns the objective o' for which [`batch_limit`] is [`deferred_limit`], microseconds: 2·L ≤ o' where
/// (1 + 1/S)·L ≤ o, with a part of S left out for random arrivals.
pub fn spread_objective_us(objective_us: u64, slots: f64) -> u64 {
    // Not a number counts as one slot.
    let slots = (slots * ROOM).max(1.0);
    // The cast saturates.
    (objective_us as f64 * 2.0 * slots / (slots + 1.0)) as u64
}

/// Returns whether the curve predicts that waiting pays: with more than one slot, where the objective, not the largest
/// size, limits the batches.
pub fn deferral_pays(curve: &ServiceCurve, objective_us: u64, sizes: &BatchSizes, slots: f64) -> bool {
    slots > 1.0
        && deferred_limit(Some(curve), objective_us, sizes, slots)
            > batch_limit(Some(curve), objective_us, sizes)
}

/// Returns the balanced batch b = λ·L(b)/S = λ·α/(S − λ·β), in rows; infinite where more rows arrive than the slots can
/// serve.
pub fn balanced_rows(curve: &ServiceCurve, rows_per_second: f64, slots: f64) -> f64 {
    let spare = slots - rows_per_second * curve.beta_seconds;
    if spare <= 0.0 { f64::INFINITY } else { rows_per_second * curve.alpha_seconds / spare }
}

/// Returns the instant until which to wait for more rows although a slot is free, microseconds; `None`: the waiting
/// requests may be sent now.
///
/// A queue waits for the balanced batch (at most B\*), for no longer than one interval L(b)/S, and not beyond the
/// latest start of the request with the earliest deadline: that deadline less the 95th percentile of the balanced
/// batch. At low load, where that batch would have less than two rows, nothing waits.
pub fn defer_until(view: &DeferView, curve: &ServiceCurve) -> Option<u64> {
    if view.slots <= 1.0 {
        return None;
    }
    let slots = view.slots * ROOM;
    let balanced = balanced_rows(curve, view.rows_per_second, slots).min(f64::from(view.limit_rows));
    if balanced < LEAST_ROWS || view.rows as f64 >= balanced {
        return None;
    }
    let rows = balanced.ceil() as u32;
    let turn_us = to_us(curve.seconds(rows) / slots);
    let latest_start_us = view.deadline_us.saturating_sub(curve.p95_us(rows)).saturating_sub(TICK_US);
    let until_us = view.since_us.saturating_add(turn_us).min(latest_start_us);
    (until_us > view.now_us).then_some(until_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// L(10) = 7.5 ms.
    const CURVE: ServiceCurve =
        ServiceCurve { alpha_seconds: 0.005, beta_seconds: 0.000_25, residual_p95_ratio: 0.04, samples: 100 };

    const WAITING: DeferView = DeferView {
        now_us: 1_000_000,
        since_us: 1_000_000,
        deadline_us: 1_015_000,
        rows: 1,
        rows_per_second: 4000.0,
        slots: 4.0,
        limit_rows: 25,
    };

    #[test]
    fn the_balanced_batch_is_what_arrives_in_one_turn() {
        let rows = balanced_rows(&CURVE, 4000.0, 4.0);
        assert!((rows - 4000.0 * (0.005 + 0.000_25 * rows) / 4.0).abs() < 1e-9, "{rows}");
        assert!(balanced_rows(&CURVE, 16_000.0, 4.0).is_infinite());
    }

    #[test]
    fn it_waits_for_the_balanced_batch_one_turn_at_most() {
        // λ·α/(3.28 − λ·β) = 8.77 rows; a turn is L(9)/3.28.
        assert_eq!(defer_until(&WAITING, &CURVE), Some(1_000_000 + 2211));
        assert_eq!(defer_until(&DeferView { rows: 8, ..WAITING }, &CURVE), Some(1_000_000 + 2211));
        assert_eq!(defer_until(&DeferView { rows: 9, ..WAITING }, &CURVE), None);
        assert_eq!(defer_until(&DeferView { now_us: 1_002_211, ..WAITING }, &CURVE), None);
    }

    #[test]
    fn it_does_not_wait_beyond_the_latest_start_of_the_first_that_is_due() {
        // The latest start less one tick of the timer.
        let tight = DeferView { deadline_us: 1_010_000, ..WAITING };
        assert_eq!(defer_until(&tight, &CURVE), Some(1_010_000 - CURVE.p95_us(9) - 1000));
        assert_eq!(defer_until(&DeferView { deadline_us: 1_008_000, ..WAITING }, &CURVE), None);
    }

    #[test]
    fn with_one_slot_or_at_low_load_nothing_waits() {
        assert_eq!(defer_until(&DeferView { slots: 1.0, ..WAITING }, &CURVE), None);
        assert_eq!(defer_until(&DeferView { rows_per_second: 1000.0, ..WAITING }, &CURVE), None);
        assert_eq!(defer_until(&DeferView { rows_per_second: 0.0, ..WAITING }, &CURVE), None);
    }

    #[test]
    fn batches_may_be_larger_where_slots_take_turns() {
        let sizes = BatchSizes::up_to(64);
        assert_eq!(batch_limit(Some(&CURVE), 15_000, &sizes), 10);
        assert_eq!(deferred_limit(Some(&CURVE), 15_000, &sizes, 4.0), 25);
        assert_eq!(deferred_limit(Some(&CURVE), 15_000, &sizes, 1.0), 10);
        assert_eq!(deferred_limit(Some(&CURVE), 15_000, &sizes, f64::NAN), 10);
    }

    #[test]
    fn it_pays_only_with_several_slots_and_an_objective_close_to_the_service_time() {
        let sizes = BatchSizes::up_to(64);
        assert!(deferral_pays(&CURVE, 15_000, &sizes, 4.0));
        assert!(!deferral_pays(&CURVE, 50_000, &sizes, 4.0), "the cap is reached without");
        assert!(!deferral_pays(&CURVE, 15_000, &sizes, 1.0));
        assert!(!deferral_pays(&CURVE, 15_000, &BatchSizes::up_to(8), 4.0));
    }
}
