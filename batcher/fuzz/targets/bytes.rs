//! Parses raw BYTES. The first byte of an input is the number of elements per row that the header claims, the second
//! one the rows.

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
    let Some(([columns, rows], raw)) = input.split_first_chunk::<2>() else { return };
    let head = format!(
        r#"{{"inputs":[{{"name":"x","shape":[{rows},{columns}],"datatype":"BYTES","parameters":{{"binary_data_size":{}}}}}]}}"#,
        raw.len()
    );
    let body = Bytes::from([head.as_bytes(), raw].concat());
    if let Ok(request) = parse_binary(&client::target(), head.len(), body, &Limits::default()) {
        carried::check(&request);
    }
});
