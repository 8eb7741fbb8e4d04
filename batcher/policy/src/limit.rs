//! How large a batch may be.

use crate::ServiceCurve;

/// The sizes that a batch may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchSizes {
    cap_rows: u32,
    allowed: Vec<u32>,
}

impl BatchSizes {
    /// Any size up to `cap_rows` (at least 1).
    pub fn up_to(cap_rows: u32) -> Self {
        Self { cap_rows: cap_rows.max(1), allowed: Vec::new() }
    }

    /// Only the sizes in `allowed` that are within `cap_rows`: smaller batches are padded up to one by the server.
    /// Without any such size this is [`BatchSizes::up_to`].
    pub fn allowed(cap_rows: u32, allowed: &[u32]) -> Self {
        let mut sizes = Self::up_to(cap_rows);
        sizes.allowed =
            allowed.iter().copied().filter(|&rows| (1..=sizes.cap_rows).contains(&rows)).collect();
        sizes.allowed.sort_unstable();
        sizes.allowed.dedup();
        sizes
    }

    /// The largest size.
    pub fn cap_rows(&self) -> u32 {
        self.allowed.last().copied().unwrap_or(self.cap_rows)
    }
}

/// B\*: the most rows b with 2·L(b) ≤ `objective_us`, among `sizes`; at least the smallest of them. Before there
/// is a curve: the largest.
///
/// Why twice: a request that arrives just after a batch has left waits for that one and rides in the next (Nexus,
/// SOSP'19, §6.1).
pub fn batch_limit(curve: Option<&ServiceCurve>, objective_us: u64, sizes: &BatchSizes) -> u32 {
    let Some(curve) = curve else { return sizes.cap_rows() };
    let fits = |rows: u32| 2.0 * curve.seconds(rows) <= objective_us as f64 / crate::US_PER_SECOND;
    if !sizes.allowed.is_empty() {
        let fitting = sizes.allowed.partition_point(|&rows| fits(rows));
        return sizes.allowed[fitting.saturating_sub(1)];
    }
    // Bisection: exact where a division's rounding would not be, and cheap (32 steps).
    let (mut low, mut high) = (1, sizes.cap_rows);
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
