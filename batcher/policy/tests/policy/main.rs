//! Tests of the policy through its public API. They are one program, so that it is linked once.

#![allow(
    clippy::unwrap_used,
    reason = "these are tests; clippy allows it only in the test functions themselves"
)]

mod backlog;
mod blame;
mod classes;
mod curve;
mod deferral;
mod discovery;
mod fairness;
mod overload;
mod queue;
mod sequences;
mod share;
mod shared;
mod stream_admission;
mod streams;
