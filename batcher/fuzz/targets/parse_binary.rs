//! Parses V2 binary requests. The first two bytes of an input are the length of the JSON part.

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
use sluice_protocol::{Limits, parse_binary};

fuzz_target!(|input: &[u8]| {
    let Some((length, body)) = input.split_first_chunk::<2>() else { return };
    let length = usize::from(u16::from_le_bytes(*length));
    let body = Bytes::copy_from_slice(body);
    if let Ok(request) = parse_binary(&client::target(), length, body, &Limits::default()) {
        carried::check(&request);
    }
});
