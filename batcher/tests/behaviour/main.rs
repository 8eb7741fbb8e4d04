//! The batcher from outside: real sockets on the loopback interface, a model server in the same process, and
//! only what its clients, its model server and its operators can see.

// Every module is private to this binary, and all of it is test code.
#![allow(unreachable_pub, clippy::unwrap_used)]

mod addresses;
mod alone;
mod barrier;
mod client;
mod completions;
mod compressed;
mod curve;
mod draining;
mod flood;
mod framing;
mod gateway;
mod grpc_upstream;
mod http2_attacks;
mod http2_frames;
mod leaving;
mod lies;
mod limits;
mod merging;
mod model;
mod observing;
mod openmetrics;
mod order;
mod overload;
mod passing;
mod passthrough;
mod process;
mod raw;
mod recorded;
mod reload;
mod slots;
mod slow;
mod stalled_calls;
mod start;
mod streams;
mod triton_config;
mod unix_socket;
mod untaken;
mod v1;
mod v1_alone;
