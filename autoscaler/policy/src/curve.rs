//! Service curve: how long a model server takes for one batch.
use serde::{Deserialize, Serialize};

use crate::float;

/// Service curve L(b) = α + β·b of one slot, which runs one batch at a time, as the batchers learned it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Curve {
    /// α: time that every batch costs, milliseconds.
    #[serde(with = "float")]
    pub alpha_ms: f64,
    /// β: time that every row adds, milliseconds.
    #[serde(with = "float")]
    pub beta_ms: f64,
    /// B\*: maximum rows that the batcher puts into one batch.
    pub batch_rows_limit: u32,
    /// Number of batches that the curve was learned from; few make it uncertain.
    pub samples: u64,
}

/// Longest time of a batch or a row, milliseconds: a day.
const MAX_MS: f64 = 86_400_000.0;
/// Shortest time of a batch, milliseconds: a nanosecond.
const MIN_MS: f64 = 1e-6;
/// Maximum rows of a batch.
const MAX_ROWS: u32 = 1 << 24;

impl Curve {
    /// Returns the time of a batch of `rows`, milliseconds.
    pub fn batch_ms(&self, rows: u32) -> f64 {
        self.alpha_ms + self.beta_ms * f64::from(rows)
    }

    /// Returns the rows per second that one slot serves at most: full batches without a pause.
    pub fn capacity_rows_per_second(&self) -> f64 {
        f64::from(self.batch_rows_limit) * 1000.0 / self.batch_ms(self.batch_rows_limit)
    }

    /// Returns whether the curve can be used: no part is negative or longer than a day, a batch takes at least a
    /// nanosecond and has at least one row. Outside of these limits the numbers of the queueing model would overflow.
    pub fn is_usable(&self) -> bool {
        let is_time = |ms: f64| (0.0..=MAX_MS).contains(&ms);
        is_time(self.alpha_ms)
            && is_time(self.beta_ms)
            && (1..=MAX_ROWS).contains(&self.batch_rows_limit)
            && self.batch_ms(1) >= MIN_MS
    }
}
