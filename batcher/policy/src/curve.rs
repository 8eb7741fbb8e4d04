//! The service curve: how long one batch takes.

mod class;
mod estimator;
mod fit;

pub use class::{ClassCurves, ShapeClass};
pub use estimator::CurveEstimator;
use serde::Serialize;

/// Time of one batch of b rows, L(b) = α + β·b: the affine model of batched inference on accelerators (Inoue,
/// arXiv 1912.06322; Nexus, SOSP'19), as learned by [`CurveEstimator`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ServiceCurve {
    /// Fixed time of a batch, seconds.
    pub alpha_seconds: f64,
    /// Time per row, seconds.
    pub beta_seconds: f64,
    /// 95th percentile of (measured ÷ predicted − 1) over recent batches, ≥ 0: the margin to keep where a late answer
    /// matters.
    pub residual_p95_ratio: f64,
    /// Number of batches that the curve was learned from, without those that are forgotten.
    pub samples: u64,
}

impl ServiceCurve {
    /// Returns the expected time of one batch of `rows` rows, seconds.
    pub fn seconds(&self, rows: u32) -> f64 {
        self.alpha_seconds + self.beta_seconds * f64::from(rows)
    }

    /// Returns the expected time of one batch of `rows` rows, microseconds rounded up.
    pub fn us(&self, rows: u32) -> u64 {
        crate::to_us(self.seconds(rows))
    }

    /// Returns the time below which 95 % of batches of `rows` rows stay, microseconds rounded up.
    pub fn p95_us(&self, rows: u32) -> u64 {
        crate::to_us(self.seconds(rows) * (1.0 + self.residual_p95_ratio))
    }
}
