//! The service curve: how long a model server takes for one batch.
use serde::{Deserialize, Serialize};

use crate::float;

/// L(b) = α + β·b for one slot (one batch at a time), as the batchers learned it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Curve {
    /// α: time that every batch costs, milliseconds.
    #[serde(with = "float")]
    pub alpha_ms: f64,
    /// β: time that every row adds, milliseconds.
    #[serde(with = "float")]
    pub beta_ms: f64,
    /// B\*: most rows that the batcher puts into one batch.
    pub batch_rows_limit: u32,
    /// Batches that the curve was learned from; few make it uncertain.
    pub samples: u64,
}

impl Curve {
    /// Time of a batch of `rows`, milliseconds.
    pub fn batch_ms(&self, rows: u32) -> f64 {
        self.alpha_ms + self.beta_ms * f64::from(rows)
    }

    /// Most rows per second that one slot can serve: full batches without a pause.
    pub fn capacity_rows_per_second(&self) -> f64 {
        f64::from(self.batch_rows_limit) * 1000.0 / self.batch_ms(self.batch_rows_limit)
    }

    /// Whether it can be used: finite, no part negative, some time per batch, at least one row.
    pub fn is_usable(&self) -> bool {
        self.alpha_ms.is_finite()
            && self.beta_ms.is_finite()
            && self.alpha_ms >= 0.0
            && self.beta_ms >= 0.0
            && self.batch_rows_limit >= 1
            && self.batch_ms(1) > 0.0
    }
}
