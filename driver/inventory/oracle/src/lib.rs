//! Cluster states, and the answers of the inventory and of the scheduler to them.
pub mod answer;
pub mod state;
