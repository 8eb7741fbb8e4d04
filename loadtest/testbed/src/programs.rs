//! Third-party programs that a node is made of: which ones, which versions, where they come from, how they are built.

pub(crate) mod binaries;
pub(crate) mod building;
pub(crate) mod parts;
