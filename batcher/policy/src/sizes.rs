//! Sizes that a batch may have, and the choice of the cheapest one for the waiting requests.

use crate::{Budget, ServiceCurve, Size};

/// The sizes that a batch may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchSizes {
    cap_rows: u32,
    allowed: Vec<u32>,
    pads: bool,
}

/// Part of a batch to send, and the size at which to send it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fit {
    /// Number of requests to send, from the first on.
    pub requests: usize,
    /// Rows on the wire: more than the requests have where the batch is padded.
    pub sent_rows: u32,
}

impl BatchSizes {
    /// Allows any size up to `cap_rows` (at least 1).
    pub fn up_to(cap_rows: u32) -> Self {
        Self { cap_rows: cap_rows.max(1), allowed: Vec::new(), pads: false }
    }

    /// Allows only the sizes in `allowed` that are within `cap_rows`; batches in between are made smaller.
    /// Without any such size this is [`BatchSizes::up_to`].
    pub fn allowed(cap_rows: u32, allowed: &[u32]) -> Self {
        let mut sizes = Self::up_to(cap_rows);
        sizes.allowed =
            allowed.iter().copied().filter(|&rows| (1..=sizes.cap_rows).contains(&rows)).collect();
        sizes.allowed.sort_unstable();
        sizes.allowed.dedup();
        sizes
    }

    /// Allows the same sizes as [`BatchSizes::allowed`], but a batch in between may also be padded to the next size.
    pub fn padded(cap_rows: u32, allowed: &[u32]) -> Self {
        Self { pads: true, ..Self::allowed(cap_rows, allowed) }
    }

    /// Returns the largest size.
    pub fn cap_rows(&self) -> u32 {
        self.allowed.last().copied().unwrap_or(self.cap_rows)
    }

    /// Returns the allowed sizes, ascending; empty where all up to [`BatchSizes::cap_rows`] are allowed.
    pub(crate) fn allowed_rows(&self) -> &[u32] {
        &self.allowed
    }

    /// Returns the rows on the wire for a batch of `rows` rows that is sent as a whole.
    pub fn sent_rows(&self, rows: u32) -> u32 {
        if !self.pads {
            return rows;
        }
        let next = self.allowed.partition_point(|&size| size < rows);
        self.allowed.get(next).copied().unwrap_or(rows)
    }

    /// Chooses how many of the requests of these sizes, from the first on, make the batch to send.
    ///
    /// - All sizes allowed: all requests.
    /// - Without padding: as many as make an allowed size. A first request whose own size is not allowed is sent alone:
    ///   it cannot be divided.
    /// - With padding: pad up or batch down, whichever costs less time per requested row, L(size) ÷ rows
    ///   (TensorFlow Serving's `MINIMIZE_TPU_COST_PER_REQUEST`; of equal ones the larger). Before there is a curve:
    ///   all of them, padded. A padded batch keeps to `budget` too.
    pub(crate) fn fit(
        &self,
        requests: impl Iterator<Item = Size>,
        budget: &Budget,
        curve: Option<&ServiceCurve>,
    ) -> Fit {
        let mut total = Size::default();
        let mut best: Option<(f64, Fit)> = None;
        for (index, size) in requests.enumerate() {
            total = total.plus(size);
            let whole = Fit { requests: index + 1, sent_rows: total.rows };
            let (cost, fit) = if self.allowed.is_empty() {
                (0.0, whole)
            } else if self.allowed.binary_search(&total.rows).is_ok() || index == 0 && !self.pads {
                (self.cost(total.rows, total.rows, curve), whole)
            } else if self.pads {
                let padded = self.sent_rows(total.rows);
                if !budget.holds(total.padded_to(padded)) {
                    // The first request must be sent in any case. It is larger than the budget allows, so it is not
                    // padded.
                    if index > 0 {
                        continue;
                    }
                    (f64::INFINITY, whole)
                } else {
                    (self.cost(padded, total.rows, curve), Fit { sent_rows: padded, ..whole })
                }
            } else {
                continue;
            };
            if best.is_none_or(|(least, _)| cost <= least) {
                best = Some((cost, fit));
            }
        }
        best.map_or(Fit { requests: 0, sent_rows: 0 }, |(_, fit)| fit)
    }

    /// Returns the time per requested row of a batch of `sent_rows` rows, of which `rows` were requested. Only padded
    /// sizes are compared by it.
    fn cost(&self, sent_rows: u32, rows: u32, curve: Option<&ServiceCurve>) -> f64 {
        match curve {
            Some(curve) if self.pads => curve.seconds(sent_rows) / f64::from(rows.max(1)),
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURVE: ServiceCurve =
        ServiceCurve { alpha_seconds: 0.020, beta_seconds: 0.001, residual_p95_ratio: 0.0, samples: 100 };
    const STEEP: ServiceCurve = ServiceCurve { alpha_seconds: 0.001, beta_seconds: 0.010, ..CURVE };

    fn fit(sizes: &BatchSizes, rows: &[u32], curve: Option<&ServiceCurve>) -> (usize, u32) {
        let fit = sizes.fit(rows.iter().map(|&rows| Size::of_rows(rows)), &Budget::of_rows(64), curve);
        (fit.requests, fit.sent_rows)
    }

    #[test]
    fn without_padding_the_largest_allowed_size_that_is_available_is_taken() {
        let sizes = BatchSizes::allowed(64, &[1, 4, 8]);
        assert_eq!(fit(&sizes, &[1; 7], Some(&CURVE)), (4, 4));
        assert_eq!(fit(&sizes, &[1; 9], Some(&STEEP)), (8, 8));
        assert_eq!(fit(&sizes, &[2, 2, 3], None), (2, 4));
    }

    #[test]
    fn without_padding_a_request_of_no_allowed_size_goes_alone() {
        assert_eq!(fit(&BatchSizes::allowed(64, &[1, 8]), &[3, 1, 1], None), (1, 3));
    }

    #[test]
    fn where_rows_cost_little_a_batch_is_padded_up() {
        let sizes = BatchSizes::padded(64, &[1, 8, 16]);
        // 36 ms for 12 rows against 28 ms for 8.
        assert_eq!(fit(&sizes, &[1; 12], Some(&CURVE)), (12, 16));
        // 36 ms for 9 rows against 28 ms for 8.
        assert_eq!(fit(&sizes, &[1; 9], Some(&CURVE)), (8, 8));
        assert_eq!(fit(&sizes, &[1; 3], Some(&CURVE)), (3, 8));
    }

    #[test]
    fn where_rows_cost_much_the_batch_is_made_smaller() {
        let sizes = BatchSizes::padded(64, &[1, 8, 16]);
        assert_eq!(fit(&sizes, &[1; 12], Some(&STEEP)), (8, 8));
        assert_eq!(
            fit(&sizes, &[1; 3], Some(&STEEP)),
            (1, 1),
            "3 rows at the price of 8 are dearer than singles"
        );
        assert_eq!(fit(&sizes, &[3, 3], Some(&STEEP)), (2, 8), "requests are not divided");
    }

    #[test]
    fn before_there_is_a_curve_all_that_waits_goes_padded() {
        assert_eq!(fit(&BatchSizes::padded(64, &[1, 8]), &[1; 5], None), (5, 8));
        assert_eq!(fit(&BatchSizes::padded(64, &[1, 8]), &[12], None), (1, 12), "beyond all sizes: as it is");
    }

    #[test]
    fn a_padded_batch_keeps_to_the_budget() {
        let sizes = BatchSizes::padded(64, &[1, 8, 16]);
        let budget = Budget { tokens: 1000, ..Budget::of_rows(64) };
        let request = Size { rows: 1, bytes: 0, tokens: 100 };
        let fit = sizes.fit(std::iter::repeat_n(request, 9), &budget, Some(&CURVE));
        assert_eq!(fit, Fit { requests: 8, sent_rows: 8 }, "16 rows would be 1600 tokens");
    }
}
