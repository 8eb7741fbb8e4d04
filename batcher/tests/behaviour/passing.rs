//! Requests and answers that pass through arrive as they were sent: every byte, header, method and status, without
//! delay.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use tokio::net::TcpStream;

use crate::client::{request, send};
use crate::model::{Behaviour, Model};
use crate::raw::{Raw, exchange, status};
use crate::start::{Batcher, settings, sidecar};

async fn passing(name: &str) -> (Model, Batcher) {
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    (model, batcher)
}

#[tokio::test]
async fn bodies_are_byte_exact_whatever_their_size_and_their_chunks() {
    let (_model, batcher) = passing("pass-bodies").await;
    let sizes = prop_oneof![
        0_usize..4,
        prop::sample::select(vec![1023, 8191, 8192, 8193, 65_535, 65_536, 65_537]),
        100_000_usize..700_000
    ];
    let strategy = (sizes, any::<u64>(), prop::collection::vec(1_usize..100_000, 1..8));
    let mut runner = TestRunner::deterministic();
    for _ in 0..40 {
        let (size, seed, chunks) = strategy.new_tree(&mut runner).unwrap().current();
        let body: Vec<u8> = (0..size as u64).map(|at| (at.wrapping_mul(seed | 1) >> 7) as u8).collect();
        let mut bytes =
            b"PUT /echo HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
                .to_vec();
        let mut rest = &body[..];
        for chunk in chunks.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*chunk).min(rest.len()));
            bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            bytes.extend_from_slice(piece);
            bytes.extend_from_slice(b"\r\n");
            rest = after;
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        let mut client = Raw::connect(batcher.front).await;
        client.write(bytes).await;
        let answer = client.read_to_end().await;
        let head = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        assert!(answer[head..] == body, "{size} bytes in chunks of {chunks:?}");
        // The same with a length.
        let got = send(batcher.front, request("POST", "/echo", body.clone())).await;
        assert!(got.body == body, "{size} bytes");
    }
}

#[tokio::test]
async fn methods_queries_and_odd_header_values_arrive_as_they_are() {
    let (_model, batcher) = passing("pass-heads").await;
    for method in ["HEAD", "OPTIONS", "PATCH", "DELETE", "PROPFIND"] {
        let got = send(batcher.front, request(method, "/echo", "")).await;
        assert_eq!((got.status, got.headers["x-method"].to_str().unwrap()), (418, method));
    }
    let path = "/echo?q=%2f%2F&x=a+b&&=;:@!$'()*,%zz&%C3%A9";
    let got = send(batcher.front, request("GET", path, "")).await;
    assert_eq!(got.headers["x-uri"], path);
    let bytes =
        b"GET /echo HTTP/1.1\r\nhost: a.example:8000\r\nx-latin: caf\xe9\r\nx-empty:\r\nx-tab: a\tb\r\n\
                  x-many: one\r\nx-other: 1\r\nX-Many: two\r\nx-many: three\r\ncookie: a=1\r\ncookie: b=2\r\n\
                  connection: close\r\n\r\n";
    let mut client = Raw::connect(batcher.front).await;
    client.write(bytes).await;
    let answer = client.read_to_end().await;
    let answer: Vec<&[u8]> = answer.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii_end).collect();
    let has = |line: &[u8]| answer.contains(&line);
    assert!(has(b"x-got-latin: caf\xe9") || has(b"x-got-x-latin: caf\xe9"));
    assert!(has(b"x-got-x-empty:") && has(b"x-got-x-tab: a\tb") && has(b"x-got-host: a.example:8000"));
    let many: Vec<&&[u8]> = answer.iter().filter(|line| line.starts_with(b"x-got-x-many: ")).collect();
    assert_eq!(
        many,
        [b"x-got-x-many: one".as_slice(), b"x-got-x-many: two", b"x-got-x-many: three"]
            .iter()
            .collect::<Vec<_>>()
    );
    assert!(has(b"x-got-cookie: a=1") && has(b"x-got-cookie: b=2"));
}

#[tokio::test]
async fn answers_without_bodies_leave_the_connection_usable() {
    let (_model, batcher) = passing("pass-empty").await;
    let mut client = Raw::connect(batcher.front).await;
    for code in [204, 304, 205, 404] {
        client.write(format!("GET /status/{code} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        let answer = client.read_until("\r\n\r\n").await;
        assert_eq!(status(&answer), code);
        assert!(answer.contains("etag: \"v1\""), "{answer}");
    }
    client.write("HEAD /v2 HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let answer = client.read_until("\r\n\r\n").await;
    assert!(answer.contains("content-length: ") && answer.ends_with("\r\n\r\n"), "a head alone: {answer}");
    client.write("GET /status/404 HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(status(&client.read_until("\r\n\r\n").await), 404);
}

#[tokio::test]
async fn a_client_that_expects_to_be_asked_for_its_body_is_asked() {
    let (_model, batcher) = passing("pass-expect").await;
    let mut client = Raw::connect(batcher.front).await;
    client.write("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n").await;
    assert_eq!(client.read_until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write("body").await;
    let answer = client.read_until("body").await;
    assert_eq!(status(&answer), 418);
    assert!(!answer.contains("x-got-expect"), "for this hop only: {answer}");
    // One whose body is not wanted is not.
    let mut client = Raw::connect(batcher.front).await;
    let length = (64 << 20) + 1;
    client
        .write(format!(
            "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\nexpect: 100-continue\r\n\r\n"
        ))
        .await;
    assert_eq!(status(&client.read_until("\r\n\r\n").await), 413);
}

#[tokio::test]
async fn trailers_reach_clients_that_take_them() {
    let (_model, batcher) = passing("pass-trailers").await;
    let ask = |te: &str| format!("GET /with-trailers HTTP/1.1\r\nhost: x\r\n{te}connection: close\r\n\r\n");
    let answer = exchange(batcher.front, ask("te: trailers\r\n")).await;
    assert!(answer.contains("body") && answer.contains("x-checksum: 42"), "{answer}");
    let answer = exchange(batcher.front, ask("")).await;
    assert!(answer.contains("body") && !answer.contains("x-checksum: 42"), "{answer}");
}

#[tokio::test]
async fn an_upgrade_is_answered_clearly() {
    let (_model, batcher) = passing("pass-upgrade").await;
    let mut client = Raw::connect(batcher.front).await;
    client
        .write(
            "GET /v1/realtime HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n",
        )
        .await;
    assert_eq!(status(&client.read_until("a websocket does not pass through").await), 501);
    let mut client = Raw::connect(batcher.front).await;
    client.write("CONNECT a.example:443 HTTP/1.1\r\nhost: a.example:443\r\n\r\n").await;
    assert_eq!(status(&client.read_until("CONNECT does not pass through").await), 501);
}

#[tokio::test]
async fn grpc_streams_of_unknown_services_flow_both_ways_at_once() {
    let (_model, batcher) = passing("pass-duplex").await;
    let stream = TcpStream::connect(batcher.front).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (pieces, received) = tokio::sync::mpsc::channel::<Bytes>(1);
    let body = Box::pin(StreamBody::new(futures::stream::unfold(received, |mut received| async move {
        let piece = received.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(Frame::data(piece)), received))
    })));
    let uri = format!("http://{}/duplex", batcher.front);
    let request = Request::post(uri).header("content-type", "application/grpc").body(body).unwrap();
    pieces.send(Bytes::from_static(b"first")).await.unwrap();
    let mut response = sender.send_request(request).await.unwrap();
    // Each comes back before the next one is sent: nothing is gathered on the way.
    for piece in ["first", "second", "third"] {
        if piece != "first" {
            pieces.send(Bytes::from(piece)).await.unwrap();
        }
        let back = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(back, piece);
    }
    drop(pieces);
    assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
}
