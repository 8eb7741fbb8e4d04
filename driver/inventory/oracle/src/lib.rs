//! Cluster states, and what the inventory and the scheduler say of them.
pub mod answer;
pub mod state;
