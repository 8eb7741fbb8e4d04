//! Admission of requests that a model server batches by itself, step by step (continuous batching, LLM servers): how
//! many of them to send at a time, and which of the waiting ones is next.

mod gate;
mod limiter;

pub use gate::{Arrival, GateSettings, Left, StreamGate};
pub use limiter::{ConcurrencyLimiter, LimitBounds};
