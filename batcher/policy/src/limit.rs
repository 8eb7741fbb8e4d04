//! Computes how large a batch may be.

use crate::{BatchSizes, ServiceCurve};

/// Returns B\*: the most rows b with 2·L(b) ≤ `objective_us`, among `sizes`; at least the smallest of them. Without a
/// curve it is the largest.
///
/// Why twice: a request that arrives just after a batch was sent waits for that one and is part of the next (Nexus,
/// SOSP'19, §6.1).
pub fn batch_limit(curve: Option<&ServiceCurve>, objective_us: u64, sizes: &BatchSizes) -> u32 {
    let Some(curve) = curve else { return sizes.cap_rows() };
    let fits = |rows: u32| 2.0 * curve.seconds(rows) <= objective_us as f64 / crate::US_PER_SECOND;
    let allowed = sizes.allowed_rows();
    if !allowed.is_empty() {
        let fitting = allowed.partition_point(|&rows| fits(rows));
        return allowed[fitting.saturating_sub(1)];
    }
    // Bisection: exact where a division's rounding would not be, and cheap (32 steps).
    let (mut low, mut high) = (1, sizes.cap_rows());
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if fits(middle) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURVE: ServiceCurve =
        ServiceCurve { alpha_seconds: 0.020, beta_seconds: 0.001, residual_p95_ratio: 0.0, samples: 100 };

    #[test]
    fn two_batches_fit_into_the_objective() {
        assert_eq!(batch_limit(Some(&CURVE), 300_000, &BatchSizes::up_to(1000)), 130);
        assert_eq!(batch_limit(Some(&CURVE), 300_000, &BatchSizes::up_to(64)), 64);
    }

    #[test]
    fn at_least_one_row_goes_even_where_none_fits() {
        assert_eq!(batch_limit(Some(&CURVE), 1_000, &BatchSizes::up_to(64)), 1);
        assert_eq!(batch_limit(Some(&CURVE), 1_000, &BatchSizes::allowed(64, &[8, 16])), 8);
    }

    #[test]
    fn allowed_sizes_are_kept_to() {
        let sizes = BatchSizes::allowed(100, &[64, 1, 256, 16]);
        assert_eq!(batch_limit(Some(&CURVE), 300_000, &sizes), 64);
        assert_eq!(batch_limit(Some(&CURVE), 100_000, &sizes), 16);
    }

    #[test]
    fn without_a_curve_the_cap_holds() {
        assert_eq!(batch_limit(None, 300_000, &BatchSizes::up_to(64)), 64);
    }
}
