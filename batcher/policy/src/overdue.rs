//! When a batch takes so long that its requests are to be tried elsewhere too.

use crate::ServiceCurve;

/// So many times the time that 95 % of such batches stay under.
const TIMES_P95: u64 = 4;
/// A pause of the machine or of a runtime's garbage collector is no stall.
const LEAST_US: u64 = 200_000;
/// A curve of fewer batches follows any one that was out of the ordinary.
const LEAST_SAMPLES: u64 = 3;

/// After how long a batch of so many rows on the wire runs far beyond its prediction, microseconds; `None` where
/// nothing is predicted.
pub fn overdue_after_us(curve: Option<&ServiceCurve>, sent_rows: u32) -> Option<u64> {
    let curve = curve.filter(|curve| curve.samples >= LEAST_SAMPLES)?;
    Some(curve.p95_us(sent_rows).saturating_mul(TIMES_P95).max(LEAST_US))
}
