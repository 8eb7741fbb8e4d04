//! The inventory as its users see it: GPUs in, API objects out; objects in, placements and reasons out.
#![allow(clippy::unwrap_used, reason = "tests")]
#[path = "inventory/allocating.rs"]
mod allocating;
#[path = "inventory/capacity.rs"]
mod capacity;
#[path = "inventory/fixtures.rs"]
mod fixtures;
#[path = "inventory/free.rs"]
mod free;
#[path = "inventory/oracle.rs"]
mod oracle;
#[path = "inventory/publishing.rs"]
mod publishing;
#[path = "inventory/selectors.rs"]
mod selectors;
