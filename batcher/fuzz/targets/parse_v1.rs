//! V1. The first byte selects the model's metadata.

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
use sluice_protocol::{Address, Datatype, Limits, ModelSignature, TensorSignature, parse_v1};

fuzz_target!(|input: &[u8]| {
    let Some((which, body)) = input.split_first() else { return };
    let tensor = |name: &str, datatype, shape: &[Option<u64>]| TensorSignature {
        name: name.into(),
        datatype,
        shape: shape.into(),
    };
    let inputs = match which % 4 {
        0 => Vec::new(),
        1 => vec![tensor("a", Datatype::Int32, &[None, Some(2)])],
        2 => vec![tensor("a", Datatype::Fp32, &[None]), tensor("b", Datatype::Bytes, &[None, None])],
        _ => vec![tensor("a", Datatype::Bool, &[None, None, Some(1)])],
    };
    let signature = ModelSignature { inputs, outputs: Vec::new() };
    let target = Address { target: client::target(), label: None };
    let body = Bytes::copy_from_slice(body);
    if let Ok(request) = parse_v1(&target, body, &Limits::default(), Some(&signature)) {
        carried::check(&request);
    }
});
