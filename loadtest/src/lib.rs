//! Load for inference services, and what it takes to trust its numbers: an open-loop generator that keeps
//! and reports its own schedule, a reference model server whose answers can be checked row by row, reports
//! and thresholds.
//!
//! | module | what it holds |
//! |---|---|
//! | [`reference`] | the function that the reference model computes and the generator checks |
//! | [`clock`] | time below a millisecond |
//! | [`model`] | `sluice-loadtest model`: the reference model server (simulated inference) |

#![forbid(unsafe_code)]

pub mod cli;
pub mod clock;
pub mod model;
pub mod reference;
