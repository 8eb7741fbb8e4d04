//! Admission of requests that a model server batches by itself, step by step (continuous batching, LLM servers): how
//! many of them to send at a time, and which of the waiting ones is next.

mod admission;
mod limiter;

pub use admission::{Arrival, Left, StreamAdmission, StreamAdmissionSettings};
pub use limiter::{ConcurrencyLimiter, LimitBounds};
