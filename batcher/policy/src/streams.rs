//! Requests that a model server batches by itself, step by step (continuous batching: LLM servers): how many of them
//! to let in at a time, and which of the waiting ones next.

mod admission;
mod limiter;

pub use admission::{Arrival, Left, StreamAdmission, StreamAdmissionSettings};
pub use limiter::{ConcurrencyLimiter, LimitBounds};
