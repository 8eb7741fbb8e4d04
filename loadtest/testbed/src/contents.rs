//! What is installed into a running cluster.

pub(crate) mod discovery;
pub(crate) mod dns;
pub(crate) mod fake_nodes;
pub(crate) mod install;
pub(crate) mod prometheus;
