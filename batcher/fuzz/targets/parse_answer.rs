//! Responses of a model server to a batch of two. The first byte is the wire format, the next two are the length of the
//! JSON part.

#![no_main]

#[path = "../../protocol/tests/protocol/client.rs"]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod client;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sluice_protocol::{BatchRows, Datatype, WireFormat, parse_response, split};

use client::{Style, Values, request};

fuzz_target!(|input: &[u8]| {
    let Some(([format, low, high], body)) = input.split_first_chunk::<3>() else { return };
    let (format, length) = match format % 4 {
        0 => (WireFormat::Json, None),
        1 => (WireFormat::Binary, Some(usize::from(u16::from_le_bytes([*low, *high])))),
        2 => (WireFormat::Grpc, None),
        _ => (WireFormat::V1, None),
    };
    let Ok(answer) = parse_response(format, length, Bytes::copy_from_slice(body)) else { return };
    let x = |rows: u64| Values {
        name: "x".into(),
        datatype: Datatype::Int8,
        shape: vec![rows],
        elements: vec![vec![1]; rows as usize],
    };
    let asked = [
        request(Style::GrpcRaw, None, &[x(2)]),
        request(Style::V1, None, &[x(1)]),
        request(Style::JsonFlat, Some("i"), &[x(1)]),
    ];
    let requests: Vec<_> = asked.iter().collect();
    for padding in [0, 1] {
        let rows = BatchRows { requests: vec![2, 1, 1], padding };
        if let Ok(answers) = split(&answer, &requests, &rows) {
            assert_eq!(answers.len(), 3);
        }
    }
    let _ = split(&answer, &requests[..1], &BatchRows { requests: vec![2], padding: 0 });
});
