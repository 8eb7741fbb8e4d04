//! What a cluster uses on the machine that it runs on, and what the machine must have.

pub(crate) mod leftovers;
pub(crate) mod mounts;
pub(crate) mod namespaces;
pub(crate) mod network;
pub(crate) mod requirements;
