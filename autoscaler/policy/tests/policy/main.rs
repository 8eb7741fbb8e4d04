//! The scaling policy at its boundary: an input goes in, a decision comes out.
#![allow(clippy::unwrap_used, reason = "tests")]
mod closed_loop;
mod demand;
mod fixtures;
mod holds;
mod hpa;
mod model;
mod replay;
mod rollout;
mod server;
mod signals;
