//! HTTP/2 as an attacker speaks it, frame by frame: each attack ends its own connection, and costs little.

use sluice_batcher::with_settings;

use crate::client::{infer_grpc, infer_json};
use crate::http2_frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GET, GOAWAY, HEADERS, POST, RST_STREAM, frame, head, hello,
};
use crate::model::{Behaviour, Model};
use crate::raw::Raw;
use crate::start::{Batcher, settings, sidecar, until};

async fn still_serves(batcher: &Batcher, name: &str) {
    assert_eq!(infer_json(batcher.front, name, &[7]).await.output("twice"), [14]);
    assert_eq!(infer_grpc(batcher.front, name, &[7]).await.grpc_status(), 0);
}

/// Whether a GOAWAY frame is among these whole frames.
fn has_goaway(mut bytes: &[u8]) -> bool {
    while let [a, b, c, kind, ..] = *bytes {
        if kind == GOAWAY {
            return true;
        }
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        bytes = bytes.get(9 + length..).unwrap_or_default();
    }
    false
}

#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let name = "rapid-reset";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let mut client = Raw::connect(batcher.front).await;
    let mut bytes = hello(&[]);
    for stream in (1..20_000).step_by(2) {
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &head(GET, "/echo")));
        bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    client.write(bytes).await;
    // It is closed by the other side: there is an end.
    client.read_to_end().await;
    still_serves(&batcher, name).await;
}

#[tokio::test]
async fn a_head_without_an_end_ends_the_connection() {
    let name = "continuation";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let mut client = Raw::connect(batcher.front).await;
    let mut bytes = hello(&[]);
    bytes.extend(frame(HEADERS, END_STREAM, 1, &head(GET, "/echo")));
    let mut field = vec![0x00, 0x01, b'a', 0x7f, 0x81, 0x07];
    field.extend(vec![b'v'; 127 + 0x81 - 0x80 + (7 << 7)]);
    for _ in 0..2000 {
        bytes.extend(frame(CONTINUATION, 0, 1, &field));
    }
    client.write(bytes).await;
    client.read_to_end().await;
    still_serves(&batcher, name).await;
}

#[tokio::test]
async fn header_lists_over_the_limit_are_431_and_the_connection_lives() {
    let name = "h2-heads";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, with_settings!(settings(name), limits.max_header_bytes = 8192)).await;
    let long = "a".repeat(5000);
    let headers = [("x-a", long.as_str()), ("x-b", long.as_str())];
    let got = crate::client::grpc_framed(batcher.front, "/echo", Vec::new(), &headers).await;
    assert_eq!(got.status, 431);
    still_serves(&batcher, name).await;
}

#[tokio::test]
async fn an_answer_that_the_window_keeps_out_is_not_kept_for_ever() {
    let name = "zero-window";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, with_settings!(settings(name), timeouts.answer_timeout_ms = 100)).await;
    let mut client = Raw::connect(batcher.front).await;
    // SETTINGS_INITIAL_WINDOW_SIZE 0: the answer's head may come, its body never.
    let mut bytes = hello(&[(4, 0)]);
    bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &head(GET, "/v2/health/live")));
    client.write(bytes).await;
    client.read_to_end().await;
    let closed = "sluice_batcher_connections_closed_total";
    assert!(batcher.metric(closed, "reason=\"answer_timeout\"").await >= 1.0);
    still_serves(&batcher, name).await;
}

#[tokio::test]
async fn frames_that_are_no_http2_end_the_connection() {
    let name = "h2-frames";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let cases: [(&str, Vec<u8>); 5] = [
        ("data on no stream", frame(DATA, 0, 0, b"x")),
        ("data on a stream that is not open", frame(DATA, 0, 5, b"x")),
        ("a frame larger than was agreed", frame(HEADERS, END_HEADERS, 1, &vec![0; 100_000])),
        ("a header block that is none", frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff; 40])),
        ("an even stream", frame(HEADERS, END_HEADERS | END_STREAM, 2, &head(GET, "/"))),
    ];
    for (case, bytes) in cases {
        let mut client = Raw::connect(batcher.front).await;
        client.write([hello(&[]), bytes].concat()).await;
        let answer = client.read_to_end().await;
        assert!(has_goaway(&answer), "{case}: {answer:?}");
    }
    still_serves(&batcher, name).await;
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused_and_cost_nothing() {
    let name = "h2-streams";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    model.close_gate();
    let mut client = Raw::connect(batcher.front).await;
    let mut bytes = hello(&[]);
    for stream in (1..6000).step_by(2) {
        // Heads of requests whose bodies never come: each keeps its stream open.
        bytes.extend(frame(HEADERS, END_HEADERS, stream, &head(POST, &format!("/v2/models/{name}/infer"))));
    }
    client.write(bytes).await;
    client.read_until("\0\0\x04\x03").await;
    model.open_gate();
    drop(client);
    until("all is given back", async || {
        let text = crate::client::get(batcher.admin, "/metrics").await.text();
        text.contains("sluice_batcher_connections 0\n") && text.contains("sluice_batcher_request_bytes 0\n")
    })
    .await;
    still_serves(&batcher, name).await;
}
