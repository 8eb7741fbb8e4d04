//! Bytes that no client should send: they are refused or passed on, and nothing panics.

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;
use sluice_protocol::{
    Address, Datatype, InferRequest, Limits, WireFormat, merge, parse_binary, parse_grpc, parse_json,
    parse_response, parse_v1, split,
};

use crate::client::{Style, Values, receive, request, signature, target};
use crate::echo::echo;

const UPSTREAMS: [WireFormat; 3] = [WireFormat::Json, WireFormat::Binary, WireFormat::Grpc];

fn values() -> Vec<Values> {
    let tensor = |name: &str, datatype, shape: &[u64], elements: Vec<Vec<u8>>| Values {
        name: name.into(),
        datatype,
        shape: shape.into(),
        elements,
    };
    vec![
        tensor("a", Datatype::Int32, &[2, 1], vec![vec![1, 0, 0, 0], vec![255; 4]]),
        tensor("b", Datatype::Bytes, &[2], vec![b"x,\"]".to_vec(), b"".to_vec()]),
        tensor(
            "c",
            Datatype::Fp32,
            &[2, 1, 1],
            vec![f32::NAN.to_le_bytes().into(), 0.5f32.to_le_bytes().into()],
        ),
    ]
}

/// Changes to a body: overwritten, inserted and removed bytes.
#[derive(Debug, Clone)]
enum Change {
    Set(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Truncate(Index),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    // Bytes with a meaning are more likely to pass the first checks.
    let byte = prop_oneof![any::<u8>(), prop::sample::select(b"[]{},:\"\\-019NIeE.\x00\xff".to_vec())];
    let change = (any::<Index>(), byte, 0u8..10).prop_map(|(at, byte, kind)| match kind {
        0..6 => Change::Set(at, byte),
        6..8 => Change::Insert(at, byte),
        8 => Change::Remove(at),
        _ => Change::Truncate(at),
    });
    prop::collection::vec(change, 1..4)
}

fn changed(body: &[u8], changes: &[Change]) -> Bytes {
    let mut body = body.to_vec();
    for change in changes {
        if body.is_empty() {
            break;
        }
        match change {
            Change::Set(at, byte) => {
                let at = at.index(body.len());
                body[at] = *byte;
            }
            Change::Insert(at, byte) => body.insert(at.index(body.len()), *byte),
            Change::Remove(at) => drop(body.remove(at.index(body.len()))),
            Change::Truncate(at) => body.truncate(at.index(body.len())),
        }
    }
    body.into()
}

fn parse(style: Style, header_length: Option<usize>, body: Bytes) -> Option<InferRequest> {
    let limits = Limits::default();
    match (style, header_length) {
        (Style::GrpcRaw | Style::GrpcTyped, _) => parse_grpc(body, &limits),
        (Style::V1 | Style::V1Named, _) => {
            let v1 = Address { target: target(), label: None };
            parse_v1(&v1, body, &limits, Some(&signature(&values())))
        }
        (_, Some(length)) => parse_binary(&target(), length, body, &limits),
        (_, None) => parse_json(&target(), body, &limits),
    }
    .ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_requests_never_panic_and_do_no_harm_to_their_neighbour(
        style in prop::sample::select(Style::ALL.to_vec()), changes in changes(), length_change in -3i64..4,
    ) {
        let neighbour = request(Style::JsonNested, None, &values());
        let valid = request(style, (!style.is_v1()).then_some("id"), &values());
        let header_length = valid.header_length.map(|length| length.saturating_add_signed(length_change as isize));
        let Some(strange) = parse(style, header_length, changed(&valid.body, &changes)) else { return Ok(()) };
        for upstream in UPSTREAMS {
            let _ = merge(&[&strange], upstream);
            if strange.key != neighbour.key || strange.alone.is_some() {
                continue;
            }
            // If it may share a batch, its neighbour gets its own values back, whatever the changed bytes are.
            let requests = [&strange, &neighbour];
            let Ok(merged) = merge(&requests, upstream) else { continue };
            let response = echo(&merged);
            let mut answers = split(&response, &requests, &merged.rows).unwrap();
            let mut outputs = receive(&answers.remove(1).unwrap()).outputs;
            outputs.sort_by(|one, other| one.name.cmp(&other.name));
            prop_assert_eq!(outputs, values());
        }
    }

    #[test]
    fn changed_answers_never_panic(
        upstream in prop::sample::select(UPSTREAMS.to_vec()), changes in changes(), length_change in -3i64..4,
    ) {
        let requests = [request(Style::GrpcRaw, None, &values()), request(Style::JsonFlat, None, &values())];
        let requests = [&requests[0], &requests[1]];
        // Responses have the same layout as requests: a merged body is nearly a valid response.
        let merged = merge(&requests, upstream).unwrap();
        let text = merged.chunks.concat();
        let text = match merged.format {
            WireFormat::Grpc => text[5..].to_vec(),
            _ => String::from_utf8_lossy(&text).replacen("\"inputs\"", "\"outputs\"", 1).into_bytes(),
        };
        let length = merged.header_length.map(|length| length.saturating_add_signed(1 + length_change as isize));
        if let Ok(response) = parse_response(merged.format, length, changed(&text, &changes)) {
            let _ = split(&response, &requests, &merged.rows).map(|answers| answers.len());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..200), length in 0usize..220) {
        let body = Bytes::from(body);
        let limits = Limits::default();
        let _ = parse_json(&target(), body.clone(), &limits);
        let _ = parse_binary(&target(), length, body.clone(), &limits);
        let _ = parse_grpc(body, &limits);
    }
}

#[test]
fn deep_nesting_costs_no_stack() {
    for text in [
        format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!(
            r#"{{"inputs":[{{"name":"x","shape":[1],"datatype":"INT8","data":{}1{}}}]}}"#,
            "[".repeat(100_000),
            "]".repeat(100_000)
        ),
        format!(r#"{{"unknown":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000)),
    ] {
        let _ = parse_json(&target(), Bytes::from(text), &Limits::default());
    }
}

#[test]
fn a_million_inputs_stop_at_the_limit() {
    let inputs = vec!["{}"; 1_000_000].join(",");
    let error = parse_json(&target(), Bytes::from(format!(r#"{{"inputs":[{inputs}]}}"#)), &Limits::default());
    assert_eq!(error.unwrap_err().to_string(), "more than 256 tensors (maxTensors)");
}
