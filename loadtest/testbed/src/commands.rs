//! Commands that create and remove a cluster.

pub(crate) mod down;
pub(crate) mod up;
