//! The Kubernetes platform against an API server in memory, with sidecars and a Prometheus that are simulated in this
//! folder. All reads and writes go through the real client.

#![allow(clippy::unwrap_used, reason = "what a helper of tests cannot do fails the test")]

mod api;
mod conflicts;
mod gateway;
mod leading;
mod objects;
mod page;
mod pages;
mod program;
mod rollouts;
mod scaling;
mod states;
mod tenants;
mod unseen;
