//! Requests that two readers may read differently are rejected, and no other request is affected.

use crate::client::{get, infer_json};
use crate::model::{Behaviour, Model};
use crate::raw::{Raw, exchange, infer_bytes, status};
use crate::start::{Batcher, settings, sidecar};

#[tokio::test]
async fn ambiguous_or_malformed_requests_are_400_and_close_their_connection_only() {
    let name = "framing";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let path = format!("/v2/models/{name}/infer");
    let chunked = "transfer-encoding: chunked\r\n";
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("CL and TE", infer_bytes(name, 1, chunked).into()),
        (
            "TE and CL",
            format!("POST {path} HTTP/1.1\r\nhost: x\r\n{chunked}content-length: 5\r\n\r\n0\r\n\r\n").into(),
        ),
        (
            "CL twice, equal",
            infer_bytes(name, 1, &format!("content-length: {}\r\n", crate::client::json_body(&[1]).len()))
                .into(),
        ),
        ("CL twice, different", infer_bytes(name, 1, "content-length: 2\r\n").into()),
        ("CL list", format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 2, 2\r\n\r\n{{}}").into()),
        ("CL negative", format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: -2\r\n\r\n{{}}").into()),
        (
            "CL with a sign",
            format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: +2\r\n\r\n{{}}").into(),
        ),
        (
            "CL beyond u64",
            format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 18446744073709551616\r\n\r\n").into(),
        ),
        (
            "TE unknown",
            format!("POST {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n").into(),
        ),
        (
            "TE not chunked last",
            format!("POST {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n")
                .into(),
        ),
        ("TE twice", format!("POST {path} HTTP/1.1\r\nhost: x\r\n{chunked}{chunked}\r\n0\r\n\r\n").into()),
        ("TE in HTTP/1.0", format!("POST {path} HTTP/1.0\r\nhost: x\r\n{chunked}\r\n0\r\n\r\n").into()),
        (
            "chunk size no number",
            format!("POST {path} HTTP/1.1\r\nhost: x\r\n{chunked}\r\nzz\r\n{{}}\r\n0\r\n\r\n").into(),
        ),
        (
            "chunk size with 0x",
            format!("POST {path} HTTP/1.1\r\nhost: x\r\n{chunked}\r\n0x2\r\n{{}}\r\n0\r\n\r\n").into(),
        ),
        (
            "chunk size huge",
            format!("POST {path} HTTP/1.1\r\nhost: x\r\n{chunked}\r\nfffffffffffffffff\r\n{{}}").into(),
        ),
        (
            "chunk longer than its size",
            format!("POST {path} HTTP/1.1\r\nhost: x\r\n{chunked}\r\n2\r\n{{}}}}\r\n0\r\n\r\n").into(),
        ),
        ("folded header", b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\na: b\r\n c\r\n\r\n".to_vec()),
        ("bare LF after a header", b"GET /v2/health/live HTTP/1.1\r\nhost: x\n\r\n".to_vec()),
        ("bare LF after the request line", b"GET /v2/health/live HTTP/1.1\nhost: x\r\n\r\n".to_vec()),
        ("bare LF ends the head", b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\n".to_vec()),
        ("bare CR in a value", b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\na: b\rc\r\n\r\n".to_vec()),
        ("NUL in a value", b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\na: b\0c\r\n\r\n".to_vec()),
        ("NUL in a name", b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\na\0b: c\r\n\r\n".to_vec()),
        ("space before the colon", b"GET /v2/health/live HTTP/1.1\r\nhost : x\r\n\r\n".to_vec()),
        ("no request", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec()),
        ("two spaces", b"GET  /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n".to_vec()),
        ("unknown version", b"GET /v2/health/live HTTP/3.1\r\nhost: x\r\n\r\n".to_vec()),
    ];
    for (case, bytes) in cases {
        // In one piece, and byte by byte at its worst places.
        let whole = exchange(batcher.front, &bytes).await;
        assert!(whole.starts_with("HTTP/1.1 400"), "{case}: {whole}");
        assert_eq!(whole.matches("HTTP/1.1 ").count(), 1, "{case}: one answer, then the end: {whole}");
    }
    assert_eq!(infer_json(batcher.front, name, &[7]).await.output("twice"), [14]);
    let calls = model.client_calls();
    assert_eq!(calls.len(), 1, "nothing of all that has reached the model: {calls:?}");
}

#[tokio::test]
async fn a_request_hidden_behind_another_one_is_not_served() {
    let name = "smuggled";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    // Who believes the length sees one request; who believes the chunks sees two.
    let hidden = infer_bytes(name, 2, "");
    let body = format!("0\r\n\r\n{hidden}");
    let first = format!(
        "POST /v2/models/{name}/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\ntransfer-encoding: chunked\r\n\r\n",
        body.len()
    );
    // In front of it a good one, which is answered.
    let answers = exchange(batcher.front, format!("{}{first}{body}", infer_bytes(name, 1, ""))).await;
    let statuses: Vec<&str> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "400"], "{answers}");
    let rows: Vec<i64> = model.client_calls().into_iter().flat_map(|call| call.ids).collect();
    assert_eq!(rows, [1]);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let name = "pipelined";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let close = infer_bytes(name, 4, "connection: close\r\n");
    let requests = [1, 2, 3].map(|id| infer_bytes(name, id, "")).concat() + &close;
    let answers = exchange(batcher.front, requests).await;
    let ids: Vec<usize> =
        (1..=4).map(|id| answers.find(&format!("\"id\":\"r{id}\"")).expect("an answer")).collect();
    assert!(ids.is_sorted(), "{answers}");
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 4, "{answers}");
}

#[tokio::test]
async fn heads_over_the_limits_are_431() {
    let name = "heads";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher =
        sidecar(&model, sluice_batcher::with_settings!(settings(name), limits.max_header_bytes = 8192)).await;
    let long = format!("x-long: {}\r\n", "a".repeat(20_000));
    assert_eq!(status(&exchange(batcher.front, infer_bytes(name, 1, &long)).await), 431);
    let many: String = (0..200).map(|number| format!("x-{number}: 1\r\n")).collect();
    assert_eq!(status(&exchange(batcher.front, infer_bytes(name, 1, &many)).await), 431);
    // One that never ends: memory is not the limit.
    let endless = format!("GET / HTTP/1.1\r\n{}", "x: y\r\n".repeat(100_000));
    assert_eq!(status(&exchange(batcher.front, endless).await), 431);
    let longer_than_a_path = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(30_000));
    let refused = status(&exchange(batcher.front, longer_than_a_path).await);
    assert!([414, 431].contains(&refused), "{refused}");
    assert_eq!(infer_json(batcher.front, name, &[7]).await.output("twice"), [14]);
    assert_eq!(model.client_calls().len(), 1);
}

/// The request's bytes in these pieces, each of which the batcher reads alone: the next one is written when a request
/// over another connection, sent after the piece before, has been answered.
async fn exchange_in_pieces(batcher: &Batcher, pieces: &[Vec<u8>]) -> String {
    let mut client = Raw::connect(batcher.front).await;
    client.0.set_nodelay(true).unwrap();
    for piece in pieces {
        client.write(piece).await;
        for _ in 0..3 {
            get(batcher.front, "/v2/health/live").await;
        }
    }
    String::from_utf8_lossy(&client.read_to_end().await).into_owned()
}

#[tokio::test]
async fn a_long_number_that_comes_in_two_reads_is_no_other_number() {
    let name = "long-numbers";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let hidden = infer_bytes(name, 2, "");
    let post = |headers: &str| format!("POST /echo HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
    let zeros = "0".repeat(300);
    let length = hidden.len();
    let chunked = post("transfer-encoding: chunked\r\n");
    let cases: Vec<(&str, Vec<String>)> = vec![
        (
            "chunk size of many digits",
            vec![format!("{chunked}{zeros}"), format!("{length:x}\r\n{hidden}\r\n0\r\n\r\n")],
        ),
        (
            "chunk size behind whose zeros the digits come in a third read",
            vec![chunked.clone(), zeros.clone(), format!("{length:x}\r\n{hidden}\r\n0\r\n\r\n")],
        ),
        ("the same in one read", vec![format!("{chunked}{zeros}{length:x}\r\n{hidden}\r\n0\r\n\r\n")]),
        (
            "content-length of many digits",
            vec![
                format!("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: {zeros}"),
                format!("{length}\r\n\r\n{hidden}"),
            ],
        ),
        (
            "content-length behind many spaces",
            vec![
                format!("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length:{}", " ".repeat(300)),
                format!("{length}\r\n\r\n{hidden}"),
            ],
        ),
        (
            "transfer-encoding behind many spaces",
            vec![
                format!("POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding:{}", " ".repeat(300)),
                format!("chunked\r\n\r\n{length:x}\r\n{hidden}\r\n0\r\n\r\n"),
            ],
        ),
        (
            "a chunk extension without end",
            vec![format!("{chunked}5;{}", "a".repeat(300)), "\r\nhello\r\n0\r\n\r\n".to_owned()],
        ),
        ("a bare LF in the last chunk's extension", vec![format!("{chunked}0;a\n\r\n")]),
        (
            "a bare LF in the last chunk's extension, two reads",
            vec![format!("{chunked}0;a"), "\n\r\n".into()],
        ),
        (
            "HTTP/2's first line, and then HTTP/1.1",
            vec!["PRI * HTTP/2.0\r\n".into(), format!("host: x\r\n\r\n{hidden}")],
        ),
    ];
    for (case, pieces) in cases {
        let pieces: Vec<Vec<u8>> = pieces.into_iter().map(String::into_bytes).collect();
        let answers = exchange_in_pieces(&batcher, &pieces).await;
        assert!(answers.starts_with("HTTP/1.1 400"), "{case}: {answers}");
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{case}: one answer, then the end: {answers}");
    }
    // What would be refused is refused behind such a number too.
    for behind in ["host: x\n\r\n", "content-length: 1\r\ncontent-length: 1\r\n\r\nx"] {
        let size = format!("{zeros}5\r\nhello\r\n0\r\n\r\nGET /echo HTTP/1.1\r\n{behind}");
        let answers = exchange_in_pieces(&batcher, &[chunked.clone().into(), size.into()]).await;
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
    }
    assert!(model.client_calls().is_empty(), "nothing that was hidden has reached the model");
}

#[tokio::test]
async fn a_binary_part_that_may_begin_at_two_places_is_400() {
    let name = "binary-part";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    // Alone and as it came, it would reach a server that may believe the other line.
    let head = r#"{"parameters":{"sequence_id":1},"inputs":[{"name":"id","datatype":"INT64","shape":[1,1],"parameters":{"binary_data_size":8}}]}"#;
    let length = head.len();
    for lines in [
        format!("inference-header-content-length: {length}\r\ninference-header-content-length: {length}\r\n"),
        format!("inference-header-content-length: {length}\r\ninference-header-content-length: 5\r\n"),
        format!("inference-header-content-length: +{length}\r\n"),
        format!("inference-header-content-length: {length}, {length}\r\n"),
        format!("inference-header-content-length: {length} 1\r\n"),
        "inference-header-content-length:\r\n".to_owned(),
        "inference-header-content-length: 99999999999999999999999\r\n".to_owned(),
    ] {
        let asked = format!(
            "POST /v2/models/{name}/infer HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{lines}content-length: {}\r\n\r\n{head}\0\0\0\0\0\0\0\x01",
            length + 8
        );
        let answer = exchange(batcher.front, asked).await;
        assert_eq!(status(&answer), 400, "{lines}: {answer}");
        assert!(answer.contains("inference-header-content-length must be one number"), "{lines}: {answer}");
    }
    assert!(model.client_calls().is_empty());
}
