//! The inventory as its users see it: GPUs in, API objects out; objects in, placements and reasons out.
#![allow(clippy::unwrap_used, reason = "tests")]
mod allocating;
mod capacity;
mod fixtures;
mod free;
mod oracle;
mod publishing;
mod selectors;
