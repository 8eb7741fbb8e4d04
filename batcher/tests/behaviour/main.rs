//! The batcher from outside: real sockets on the loopback interface, a model server in the same process, and
//! only what its clients, its model server and its operators can see.

// Every module is private to this binary, and all of it is test code.
#![allow(unreachable_pub, clippy::unwrap_used)]

mod addresses;
mod alone;
mod barrier;
mod client;
mod closing;
mod completions;
mod compressed;
mod control;
mod curve;
mod draining;
mod flood;
mod framing;
mod gateway;
mod grpc_alone;
mod grpc_upstream;
mod hop_by_hop;
mod hosts;
mod http2_attacks;
mod http2_frames;
mod invented;
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
mod program;
mod raw;
mod recorded;
mod reload;
mod sequences;
mod settled;
mod slots;
mod slow;
mod stalled_calls;
mod start;
mod streams;
mod suspects;
mod triton_config;
mod unix_socket;
mod unlike;
mod untaken;
mod v1;
mod v1_alone;
mod v1_held;
