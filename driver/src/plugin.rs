//! The driver as a kubelet plugin: two gRPC servers on unix sockets.

pub mod authority;
pub mod check;
pub mod dra;
pub mod registration;
pub mod serve;
pub mod sockets;
