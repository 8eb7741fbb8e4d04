//! Properties of every wait.

use proptest::prelude::*;
use sluice_batch_policy::{
    BatchSizes, DeferView, ServiceCurve, balanced_rows, batch_limit, defer_until, deferred_limit,
};

fn curves() -> impl Strategy<Value = ServiceCurve> {
    (0.000_01..0.5f64, 0.0..0.05f64, 0.0..1.0f64).prop_map(
        |(alpha_seconds, beta_seconds, residual_p95_ratio)| ServiceCurve {
            alpha_seconds,
            beta_seconds,
            residual_p95_ratio,
            samples: 100,
        },
    )
}

fn views() -> impl Strategy<Value = DeferView> {
    let times = (0..10_000_000u64, 0..2_000_000u64, prop_oneof![0..3_000_000u64, Just(u64::MAX)]);
    (times, 0..200u64, 0.0..20_000.0f64, 0.0..16.0f64, 1..200u32).prop_map(
        |((since_us, waited_us, due_us), rows, rows_per_second, slots, limit_rows)| DeferView {
            now_us: since_us + waited_us,
            since_us,
            deadline_us: since_us.saturating_add(due_us),
            rows,
            rows_per_second,
            slots,
            limit_rows,
        },
    )
}

proptest! {
    /// A wait ends in time for the earliest deadline, even in a batch of all waiting rows, and after at most
    /// the time of two full batches; with a full batch, with one slot and with a balanced batch of less than two rows
    /// there is no wait.
    #[test]
    fn waits_are_bounded(curve in curves(), view in views()) {
        let until_us = defer_until(&view, &curve);
        if let Some(until_us) = until_us {
            prop_assert!(until_us > view.now_us);
            prop_assert!(view.slots > 1.0);
            prop_assert!(view.rows < u64::from(view.limit_rows));
            let start_us = view.deadline_us.saturating_sub(curve.p95_us(view.rows as u32));
            prop_assert!(until_us <= start_us);
            prop_assert!(until_us <= view.since_us + 2 * curve.us(view.limit_rows));
            // A part of the slots is left out, about a fifth: the batch is larger than the balanced one.
            prop_assert!(balanced_rows(&curve, view.rows_per_second, 0.8 * view.slots) >= 2.0);
        }
    }

    /// Where a queue does not wait, it does not wait with more rows either.
    #[test]
    fn company_ends_a_wait(curve in curves(), view in views(), more in 1..100u64) {
        let later = DeferView { rows: view.rows + more, ..view };
        if defer_until(&view, &curve).is_none() {
            prop_assert_eq!(defer_until(&later, &curve), None);
        }
    }

    /// Batches of the deferred limit, one each turn, keep within the objective; and the limit is never below the one
    /// without deferral.
    #[test]
    fn a_turn_and_a_batch_fit_into_the_objective(
        curve in curves(), objective_us in 1000..2_000_000u64, slots in 1.0..16.0f64, cap_rows in 1..200u32,
    ) {
        let sizes = BatchSizes::up_to(cap_rows);
        let limit = deferred_limit(Some(&curve), objective_us, &sizes, slots);
        prop_assert!(limit >= batch_limit(Some(&curve), objective_us, &sizes));
        if limit > 1 {
            let whole_us = (1.0 + 1.0 / slots) * curve.seconds(limit) * 1e6;
            prop_assert!(whole_us <= objective_us as f64 + 1.0, "{whole_us} us");
        }
    }

    #[test]
    fn extreme_values_do_not_overflow(
        now_us in any::<u64>(), since_us in any::<u64>(), deadline_us in any::<u64>(), rows in any::<u64>(),
        rows_per_second in any::<f64>(), slots in any::<f64>(), limit_rows in any::<u32>(), curve in curves(),
    ) {
        let view = DeferView { now_us, since_us, deadline_us, rows, rows_per_second, slots, limit_rows };
        if let Some(until_us) = defer_until(&view, &curve) {
            prop_assert!(until_us > now_us);
        }
    }
}
