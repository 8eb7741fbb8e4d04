//! From readings of batchers to the [`Signals`](crate::Signals) of a decision.
//!
//! ```text
//!  reading of its own page ──┐
//!  reading of Prometheus ────┴▶ choice ─▶ history ─▶ Signals
//! ```
//!
//! Missing, stale and NaN are never zero anywhere on this path.

pub mod choice;
pub mod history;
pub mod reading;

pub use choice::{Choice, DatedReading, choose};
pub use history::{History, Limits, Presence};
pub use reading::{Buckets, Reading};

/// Largest value that a counter of rows can have: 2⁵³. Above it not every whole number is a double.
const MAX_COUNT: f64 = 9_007_199_254_740_992.0;

/// Returns whether a counter of rows can have this value: neither negative, nor NaN, nor above 2⁵³.
pub fn is_count(value: f64) -> bool {
    (0.0..=MAX_COUNT).contains(&value)
}
