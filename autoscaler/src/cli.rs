//! `kubectl sluice`: shows free slices and explains decisions. Reads objects, writes none.

pub mod capacity;
pub mod explain;
mod source;

pub use source::{ApiServer, ObjectSource};
