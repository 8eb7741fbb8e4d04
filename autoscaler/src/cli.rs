//! `kubectl sluice`: what is free, and why replicas are as many as they are. Reads objects, writes none.

pub mod capacity;
pub mod explain;
mod source;

pub use source::{ApiServer, ObjectSource};
