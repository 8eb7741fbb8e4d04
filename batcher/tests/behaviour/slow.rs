//! Clients that are too slow: in a head, in a body, between requests, in taking their answer.

use std::time::Duration;

use sluice_batcher::with_settings;
use tokio::io::AsyncReadExt;

use crate::client::{infer_grpc, infer_json};
use crate::model::{Behaviour, Model};
use crate::raw::{Raw, exchange, infer_bytes, status};
use crate::start::{Batcher, settings, sidecar, until};

async fn closed(batcher: &Batcher, reason: &str) -> f64 {
    batcher.metric("sluice_batcher_connections_closed_total", &format!("reason=\"{reason}\"")).await
}

#[tokio::test]
async fn a_head_that_does_not_end_is_not_waited_for() {
    let name = "slow-head";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, with_settings!(settings(name), timeouts.header_timeout_ms = 100)).await;
    let before = closed(&batcher, "header_timeout").await;
    let mut first = Raw::connect(batcher.front).await;
    first.write("POST /v2/models/slow-head/infer HT").await;
    assert_eq!(first.read_to_end().await, b"", "closed without an answer: nobody has asked anything");
    // Nor one that follows a good request on its connection, however steadily it drips.
    let mut second = Raw::connect(batcher.front).await;
    second.write(infer_bytes(name, 1, "")).await;
    second.read_until("\"twice\"").await;
    let dripping = async {
        loop {
            second.write("x").await;
            tokio::time::sleep(Duration::from_millis(5)).await;
            if closed(&batcher, "header_timeout").await - before >= 2.0 {
                break;
            }
        }
    };
    tokio::time::timeout(crate::start::PATIENCE, dripping).await.expect("closed while it drips");
    assert_eq!(infer_json(batcher.front, name, &[7]).await.output("twice"), [14]);
}

#[tokio::test]
async fn a_body_that_pauses_for_too_long_is_408_in_each_form() {
    let name = "slow-body";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, with_settings!(settings(name), timeouts.body_timeout_ms = 100)).await;
    let whole = infer_bytes(name, 1, "");
    let answer = exchange(batcher.front, &whole[..whole.len() - 5]).await;
    assert_eq!(status(&answer), 408, "{answer}");
    assert!(answer.contains("bodyTimeoutMs"), "{answer}");
    let chunked = format!(
        "POST /v2/models/{name}/infer HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{{"
    );
    assert_eq!(status(&exchange(batcher.front, chunked).await), 408);
    // What passes through is not waited for either.
    let passing = "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n12345";
    assert_eq!(status(&exchange(batcher.front, passing).await), 408);
    assert_eq!(infer_json(batcher.front, name, &[7]).await.output("twice"), [14]);
    assert_eq!(model.client_calls().len(), 1);
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_one_that_waits_for_its_answer_is_not() {
    let name = "idle";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, with_settings!(settings(name), timeouts.idle_timeout_ms = 100)).await;
    let mut silent = Raw::connect(batcher.front).await;
    assert_eq!(silent.read_to_end().await, b"");
    model.close_gate();
    let mut waiting = Raw::connect(batcher.front).await;
    waiting.write(infer_bytes(name, 1, "")).await;
    until("it is at the model", async || model.at_gate() == 1).await;
    let before = closed(&batcher, "idle").await;
    // Another one becomes idle meanwhile: so much time has passed.
    assert_eq!(Raw::connect(batcher.front).await.read_to_end().await, b"");
    assert!(closed(&batcher, "idle").await > before);
    model.open_gate();
    let answer = String::from_utf8_lossy(&waiting.read_to_end().await).into_owned();
    assert_eq!(status(&answer), 200, "answered, then idle and closed: {answer}");
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answer_is_let_go() {
    let name = "not-reading";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, with_settings!(settings(name), timeouts.answer_timeout_ms = 100)).await;
    let before = closed(&batcher, "answer_timeout").await;
    // Far more than the sockets' buffers hold comes back.
    let body = "x".repeat(32 << 20);
    let head = format!("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    let mut client = Raw::connect(batcher.front).await;
    client.write(head + &body).await;
    until("it is let go", async || closed(&batcher, "answer_timeout").await > before).await;
    assert_eq!(infer_json(batcher.front, name, &[7]).await.output("twice"), [14]);
}

#[tokio::test]
async fn a_client_that_sends_nothing_is_let_go_as_one_whose_head_does_not_end() {
    let name = "silent";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, with_settings!(settings(name), timeouts.header_timeout_ms = 100)).await;
    let before = closed(&batcher, "header_timeout").await;
    assert_eq!(Raw::connect(batcher.front).await.read_to_end().await, b"");
    assert!(closed(&batcher, "header_timeout").await > before);
    // HTTP/2 that has begun is no silence.
    let mut begun = Raw::connect(batcher.front).await;
    begun.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    assert_eq!(Raw::connect(batcher.front).await.read_to_end().await, b"", "so much time has passed");
    begun.write(b"\0\0\x08\x06\0\0\0\0\0pingpong").await;
    let mut answers = Vec::new();
    while !answers.windows(8).any(|piece| piece == b"pingpong") {
        let mut piece = [0; 256];
        let read = begun.0.read(&mut piece).await.unwrap();
        assert!(read > 0, "closed");
        answers.extend_from_slice(&piece[..read]);
    }
}

#[tokio::test]
async fn requests_under_way_beyond_the_limit_are_told_and_closed() {
    let name = "too-many";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, with_settings!(settings(name), limits.max_connections = 3)).await;
    model.close_gate();
    let mut kept = Vec::new();
    for id in 0..3 {
        let mut client = Raw::connect(batcher.front).await;
        client.write(infer_bytes(name, id + 1, "")).await;
        kept.push(client);
        until("the first is at the model, and the others wait", async || {
            let waiting = batcher.metric("sluice_batcher_queue_rows", &format!("model=\"{name}\"")).await;
            model.at_gate() == 1 && waiting == id as f64
        })
        .await;
    }
    let before = closed(&batcher, "limit").await;
    let mut client = Raw::connect(batcher.front).await;
    client.write("GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let refused = client.read_until("\r\n\r\n").await;
    assert_eq!(status(&refused), 503, "{refused}");
    assert!(refused.contains("connection: close"), "{refused}");
    assert!(closed(&batcher, "limit").await > before);
    model.open_gate();
    for client in &mut kept {
        assert_eq!(status(&client.read_until("\"twice\"").await), 200, "none was closed for it");
    }
    // Answered, they are idle: one of them makes room.
    let mut client = Raw::connect(batcher.front).await;
    client.write("GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(status(&client.read_until("\r\n\r\n").await), 200);
}

#[tokio::test]
async fn silent_clients_make_room_for_others_the_oldest_first() {
    let name = "silent-many";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, with_settings!(settings(name), limits.max_connections = 8)).await;
    let before = closed(&batcher, "evicted").await;
    let mut silent = Vec::new();
    for number in 0..32 {
        let mut client = Raw::connect(batcher.front).await;
        if number % 2 == 1 {
            client.write("GET /v2/health/live HTTP/1.1\r\nx-drip: ").await;
        }
        silent.push(client);
    }
    assert_eq!(infer_json(batcher.front, name, &[7]).await.output("twice"), [14]);
    assert_eq!(infer_grpc(batcher.front, name, &[7]).await.grpc_status(), 0);
    assert!(closed(&batcher, "evicted").await - before >= 24.0);
    assert_eq!(silent[0].read_to_end().await, b"");
    let mut youngest = silent.pop().unwrap();
    youngest.write("1\r\nhost: x\r\n\r\n").await;
    assert_eq!(status(&youngest.read_until("\r\n\r\n").await), 200);
    // The admin port has a separate number of connections, under the same rules.
    let mut others = Vec::new();
    for _ in 0..100 {
        others.push(Raw::connect(batcher.admin).await);
    }
    assert_eq!(crate::client::get(batcher.admin, "/livez").await.status, 200);
}
