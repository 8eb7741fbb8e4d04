//! Parses V2 JSON requests.

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
use sluice_protocol::{Limits, parse_json};

fuzz_target!(|body: &[u8]| {
    if let Ok(request) = parse_json(&client::target(), Bytes::copy_from_slice(body), &Limits::default()) {
        carried::check(&request);
    }
});
