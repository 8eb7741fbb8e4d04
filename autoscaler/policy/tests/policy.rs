//! The scaling policy at its boundary: an input goes in, a decision comes out.
#![allow(clippy::unwrap_used, reason = "tests")]
#[path = "policy/closed_loop.rs"]
mod closed_loop;
#[path = "policy/demand.rs"]
mod demand;
#[path = "policy/fixtures.rs"]
mod fixtures;
#[path = "policy/holds.rs"]
mod holds;
#[path = "policy/hpa.rs"]
mod hpa;
#[path = "policy/model.rs"]
mod model;
#[path = "policy/replay.rs"]
mod replay;
#[path = "policy/rollout.rs"]
mod rollout;
#[path = "policy/server.rs"]
mod server;
#[path = "policy/signals.rs"]
mod signals;
