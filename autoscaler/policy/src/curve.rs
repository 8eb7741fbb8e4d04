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

/// Longest time that a batch or a row may take, milliseconds: a day.
const MOST_MS: f64 = 86_400_000.0;
/// Shortest time of a batch, milliseconds: a nanosecond.
const LEAST_MS: f64 = 1e-6;
/// Most rows of a batch.
const MOST_ROWS: u32 = 1 << 24;

impl Curve {
    /// Time of a batch of `rows`, milliseconds.
    pub fn batch_ms(&self, rows: u32) -> f64 {
        self.alpha_ms + self.beta_ms * f64::from(rows)
    }

    /// Most rows per second that one slot can serve: full batches without a pause.
    pub fn capacity_rows_per_second(&self) -> f64 {
        f64::from(self.batch_rows_limit) * 1000.0 / self.batch_ms(self.batch_rows_limit)
    }

    /// Whether it can be used: no part negative or longer than a day, at least a nanosecond per batch, at least one
    /// row. Outside of these the queueing model's numbers would overflow.
    pub fn is_usable(&self) -> bool {
        let is_time = |ms: f64| (0.0..=MOST_MS).contains(&ms);
        is_time(self.alpha_ms)
            && is_time(self.beta_ms)
            && (1..=MOST_ROWS).contains(&self.batch_rows_limit)
            && self.batch_ms(1) >= LEAST_MS
    }
}
