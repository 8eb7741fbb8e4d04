//! Kubelet plugin: two gRPC servers on Unix sockets.

pub(crate) mod authority;
pub(crate) mod check;
pub(crate) mod dra;
pub(crate) mod registration;
pub(crate) mod serve;
pub(crate) mod sockets;
