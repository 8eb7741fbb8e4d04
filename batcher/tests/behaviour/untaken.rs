//! Answers that clients do not take: their memory is limited, and other clients are served meanwhile.

use std::time::Duration;

use sluice_batcher::with_settings;

use crate::client::{get, infer_json, json_body};
use crate::http2_frames::{
    DATA, END_HEADERS, END_STREAM, GET, HEADERS, POST, RST_STREAM, WINDOW_UPDATE, frame, head, hello,
};
use crate::model::{Behaviour, Model};
use crate::process::Process;
use crate::raw::Raw;
use crate::start::{Batcher, settings, sidecar, until};

/// Opens a connection of a client that takes no byte of any answer, and sends `requests` requests on it.
async fn takes_nothing(front: std::net::SocketAddr, requests: u32, ask: impl Fn(u32) -> Vec<u8>) -> Raw {
    let mut client = Raw::connect(front).await;
    let mut bytes = hello(&[(4, 0)]);
    (0..requests).for_each(|number| bytes.extend(ask(2 * number + 1)));
    client.write(bytes).await;
    client
}

fn infer(name: &str) -> impl Fn(u32) -> Vec<u8> {
    let (head, body) = (head(POST, &format!("/v2/models/{name}/infer")), json_body(&[7]));
    move |stream| {
        [frame(HEADERS, END_HEADERS, stream, &head), frame(DATA, END_STREAM, stream, body.as_bytes())]
            .concat()
    }
}

fn fetch(path: &str) -> impl Fn(u32) -> Vec<u8> {
    let head = head(GET, path);
    move |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &head)
}

async fn gauge(admin: std::net::SocketAddr, name: &str) -> usize {
    let text = get(admin, "/metrics").await.text();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<f64>().ok());
    value.unwrap_or_else(|| panic!("{name} is there")) as usize
}

async fn held(batcher: &Batcher) -> usize {
    gauge(batcher.admin, "sluice_batcher_answer_bytes").await
}

async fn given_up(batcher: &Batcher, reason: &str) -> usize {
    batcher.metric("sluice_batcher_answers_given_up_total", &format!("reason=\"{reason}\"")).await as usize
}

/// Makes the model answer with rows of `bytes` bytes, written as JSON.
fn wide(bytes: usize) -> Behaviour {
    Behaviour { wide: bytes / 3, ..Behaviour::default() }
}

const ROW_BYTES: usize = 256 << 10;

async fn others_are_served(batcher: &Batcher, name: &str) {
    let requests = (0..10).map(|_| infer_json(batcher.front, name, &[7]));
    for got in futures::future::join_all(requests).await {
        assert_eq!(got.status, 200, "{}", got.text());
        assert!(got.body.len() > ROW_BYTES / 2);
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_holds_its_part_and_stops_nobody() {
    let name = "untaken";
    let model = Model::start(name, wide(ROW_BYTES)).await;
    const BUDGET: usize = 8 << 20;
    let batcher = sidecar(&model, with_settings!(settings(name), limits.answer_bytes = BUDGET)).await;
    let refused = given_up(&batcher, "part").await;
    let client = takes_nothing(batcher.front, 100, infer(name)).await;
    until("it is refused more", async || given_up(&batcher, "part").await > refused).await;
    for _ in 0..5 {
        others_are_served(&batcher, name).await;
        // A batch on its way, as it came and as it was shared out, is beyond what was there before it.
        let held = held(&batcher).await;
        assert!(held < BUDGET + 16 * ROW_BYTES, "{held}");
    }
    drop(client);
    until("all is given back", async || held(&batcher).await == 0).await;
}

#[tokio::test]
async fn many_clients_that_take_nothing_lose_what_has_waited_longest() {
    let name = "untaken-many";
    let model = Model::start(name, wide(ROW_BYTES)).await;
    const BUDGET: usize = 4 << 20;
    let batcher = sidecar(&model, with_settings!(settings(name), limits.answer_bytes = BUDGET)).await;
    let before = given_up(&batcher, "answer_bytes").await;
    let mut clients = Vec::new();
    for _ in 0..60 {
        clients.push(takes_nothing(batcher.front, 1, infer(name)).await);
        // One answer each over HTTP/1.1, which is closed where the other one is reset.
        let mut client = Raw::connect(batcher.front).await;
        client.write(crate::raw::infer_bytes(name, 7, "")).await;
        clients.push(client);
    }
    until("room is made", async || given_up(&batcher, "answer_bytes").await > before).await;
    others_are_served(&batcher, name).await;
    let held = held(&batcher).await;
    assert!(held < BUDGET + 16 * ROW_BYTES, "{held}");
    drop(clients);
}

#[tokio::test]
async fn what_passes_through_holds_no_more_either() {
    let name = "untaken-passing";
    let model = Model::start(name, Behaviour::default()).await;
    const BUDGET: usize = 4 << 20;
    let batcher = sidecar(&model, with_settings!(settings(name), limits.answer_bytes = BUDGET)).await;
    let before = given_up(&batcher, "answer_bytes").await + given_up(&batcher, "part").await;
    let client = takes_nothing(batcher.front, 200, fetch("/bulk/4000000")).await;
    until("room is made", async || {
        given_up(&batcher, "answer_bytes").await + given_up(&batcher, "part").await > before
    })
    .await;
    assert_eq!(get(batcher.front, "/bulk/1000000").await.body.len(), 1_000_000);
    drop(client);
    until("all is given back", async || held(&batcher).await == 0).await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_one_at_a_time() {
    let name = "untaken-pipeline";
    let model = Model::start(name, wide(4 << 20)).await;
    let batcher = sidecar(&model, settings(name)).await;
    let mut client = Raw::connect(batcher.front).await;
    client.write(crate::raw::infer_bytes(name, 7, "").repeat(20)).await;
    until("the first is there", async || held(&batcher).await > 1 << 20).await;
    for _ in 0..20 {
        let held = held(&batcher).await;
        // As it came, as it was shared out, and the next one.
        assert!(held < 20 << 20, "{held}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(client);
    until("all is given back", async || held(&batcher).await == 0).await;
}

#[tokio::test]
async fn a_stream_that_is_not_taken_is_reset_and_its_connection_goes_on() {
    let name = "untaken-stream";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, with_settings!(settings(name), timeouts.answer_timeout_ms = 100)).await;
    let mut client = takes_nothing(batcher.front, 1, fetch("/v2/health/live")).await;
    let reset = frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes());
    let (mut seen, mut stream) = (Vec::new(), 3);
    let asking = async {
        while !seen.windows(reset.len()).any(|window| window == reset) {
            let ask = fetch("/v2/health/live")(stream);
            client.write([ask, frame(WINDOW_UPDATE, 0, stream, &1000_u32.to_be_bytes())].concat()).await;
            // Each of the others is answered.
            let mut answered = false;
            while !answered {
                let mut piece = vec![0; 4096];
                let read = tokio::io::AsyncReadExt::read(&mut client.0, &mut piece).await.unwrap();
                assert!(read > 0, "the connection lives");
                seen.extend_from_slice(&piece[..read]);
                answered = piece[..read].windows(4).any(|window| window == b"live");
            }
            stream += 2;
        }
    };
    tokio::time::timeout(crate::start::PATIENCE, asking).await.expect("it is reset");
}

/// The attack against the program: 200 answers of half a MiB, far more than the budget and what a process has besides.
#[tokio::test]
async fn resident_memory_stays_near_the_budget() {
    let name = "untaken-process";
    let model = Model::start(name, wide(512 << 10)).await;
    const BUDGET: usize = 16 << 20;
    // One by one, so that nothing but the answers is large.
    let settings = [("ANSWER_BYTES", "16777216"), ("BATCHING", "off")];
    let batcher = Process::start(&model, name, &settings).await;
    let idle = batcher.resident_bytes();
    let client = takes_nothing(batcher.front, 200, infer(name)).await;
    let most = std::cell::Cell::new(0);
    until("all were run or refused", async || {
        most.set(batcher.resident_bytes().max(most.get()));
        let text = get(batcher.admin, "/metrics").await.text();
        let refused = "sluice_batcher_answers_given_up_total{reason=\"part\"} ";
        let refused = text.lines().find_map(|line| line.strip_prefix(refused)?.parse::<usize>().ok());
        let run: usize = model.client_calls().iter().map(|call| call.ids.len()).sum();
        run + refused.unwrap_or(0) >= 200
    })
    .await;
    let most = most.get();
    println!(
        "resident: {} MiB idle, {} MiB at most, the budget is {} MiB",
        idle >> 20,
        most >> 20,
        BUDGET >> 20
    );
    assert!(most < BUDGET + (64 << 20), "{most}");
    assert_eq!(infer_json(batcher.front, name, &[7]).await.status, 200);
    drop(client);
}
