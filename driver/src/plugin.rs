//! The driver as a kubelet plugin: two gRPC servers on unix sockets.

pub(crate) mod authority;
pub(crate) mod check;
pub(crate) mod dra;
pub(crate) mod registration;
pub(crate) mod serve;
pub(crate) mod sockets;
