//! Properties that must hold for every request that a parser has accepted.

use sluice_protocol::{InferRequest, InferResponse, Merged, WireFormat};
use sluice_protocol::{merge, merge_padded, parse_response, split};

use crate::echo::echo;

/// Checks that nothing panics, whether the request can be sent or not; and that, where it may share a batch, a batch of two
/// and a row of padding comes back as two equal responses.
pub(crate) fn check(request: &InferRequest) {
    for upstream in [WireFormat::Json, WireFormat::Binary, WireFormat::Grpc, WireFormat::V1] {
        let _ = merge(&[request], upstream);
        if request.alone.is_some() {
            continue;
        }
        let twice = [request, request];
        let Ok(merged) = merge_padded(&twice, upstream, request.rows * 2 + 1) else { continue };
        assert_eq!(merged.total_rows(), request.rows * 2 + 1);
        assert_eq!(merged.body_bytes, merged.chunks.iter().map(|chunk| chunk.len()).sum::<usize>());
        let answers = split(&answer(&merged), &twice, &merged.rows).expect("one item per row");
        // An output that the client's wire format cannot carry is an error for both.
        let texts: Vec<Option<Vec<u8>>> =
            answers.into_iter().map(|answer| answer.ok().map(|answer| answer.chunks.concat())).collect();
        assert_eq!(texts.len(), 2);
        assert_eq!(texts[0], texts[1]);
    }
}

fn answer(merged: &Merged) -> InferResponse {
    if merged.format != WireFormat::V1 {
        return echo(merged);
    }
    let body = merged.chunks.concat();
    let document: Result<&serde_json::value::RawValue, _> = serde_json::from_slice(&body);
    let text = String::from_utf8_lossy(&body);
    assert!(document.is_ok() || text.contains("NaN") || text.contains("Infinity"), "{text}");
    let predictions = vec!["null"; merged.total_rows()].join(",");
    let answer = format!(r#"{{"predictions":[{predictions}]}}"#);
    parse_response(WireFormat::V1, None, answer.into()).expect("a valid answer")
}
