//! Decides when a batch takes so long that its requests are to be tried elsewhere too.

use crate::ServiceCurve;

/// A batch is overdue after this multiple of the duration that 95 % of such batches stay under.
const TIMES_P95: u64 = 4;
/// Shortest time after which a batch is overdue, microseconds: a pause of the machine or of a garbage collector must
/// not count as a stall.
const LEAST_US: u64 = 200_000;
/// Fewest batches that a curve must have been learned from: with fewer, one unusual batch distorts it.
const LEAST_SAMPLES: u64 = 3;

/// Returns the time, in microseconds, after which a batch of `sent_rows` rows (padding included) is far beyond its
/// prediction; `None` where there is no prediction.
pub fn overdue_after_us(curve: Option<&ServiceCurve>, sent_rows: u32) -> Option<u64> {
    let curve = curve.filter(|curve| curve.samples >= LEAST_SAMPLES)?;
    Some(curve.p95_us(sent_rows).saturating_mul(TIMES_P95).max(LEAST_US))
}
