//! Parses gRPC requests: the framing, then the message.

#![no_main]

#[path = "carried.rs"]
mod carried;
#[path = "../../protocol/tests/protocol/client.rs"]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod client;
#[path = "../../protocol/tests/protocol/echo.rs"]
mod echo;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sluice_protocol::grpc::decode_unary;
use sluice_protocol::{Limits, parse_grpc};

fuzz_target!(|body: &[u8]| {
    let body = Bytes::copy_from_slice(body);
    let _ = decode_unary(body.clone(), 1 << 20);
    if let Ok(request) = parse_grpc(body, &Limits::default()) {
        carried::check(&request);
    }
});
