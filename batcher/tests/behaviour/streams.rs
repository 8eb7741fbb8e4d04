//! Requests to a server that batches by itself: let in up to a limit, streamed, measured, cancelled, drained.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};
use sluice_batcher::settings::{Role, Settings, Streaming, WhileCold};
use sluice_batcher::with_settings;
use tokio::task::JoinHandle;

use crate::client::{get, open, post, request, send};
use crate::completions::{Completions, TOKENS};
use crate::start::{Batcher, settings, start, until};

const PATH: &str = "/v1/chat/completions";

fn body(model: &str) -> String {
    json!({"model": model, "stream": true, "max_tokens": 3, "messages": [{"role": "user", "content": "x"}]})
        .to_string()
}

fn ask(model: &str) -> Request<Full<Bytes>> {
    request("POST", PATH, body(model))
}

/// One model at a time, so that what waits and what runs is plain.
fn one_at_a_time() -> Settings {
    with_settings!(
        settings(""),
        models.models = Vec::new(),
        streams.initial_streams = 1,
        streams.max_streams = 1,
        streams.stream_wait_ms = 60_000
    )
}

async fn sidecar(model: &Completions, settings: Settings) -> Batcher {
    let batcher = start(with_settings!(settings, servers.upstream = Some(model.address.to_string()))).await;
    batcher.until_ready().await;
    batcher
}

async fn event(response: &mut Response<Incoming>) -> Bytes {
    response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap()
}

fn spawn(batcher: &Batcher, model: &'static str) -> JoinHandle<crate::client::Got> {
    let front = batcher.front;
    tokio::spawn(async move { send(front, ask(model)).await })
}

async fn until_metric(batcher: &Batcher, name: &str, model: &str, value: f64) {
    let label = format!("model=\"{model}\"");
    until(&format!("{name} of {model} is {value}"), async || batcher.metric(name, &label).await == value)
        .await;
}

async fn until_outcome(batcher: &Batcher, model: &str, outcome: &str, count: f64) {
    let labels = format!("model=\"{model}\",outcome=\"{outcome}\"");
    until(&format!("{count} of {model} are {outcome}"), async || {
        batcher.metric("sluice_batcher_streams_total", &labels).await == count
    })
    .await;
}

#[tokio::test]
async fn the_first_event_comes_before_the_second_one_exists_and_all_is_measured() {
    let name = "chat-events";
    let model = Completions::start(1).await;
    let batcher = sidecar(&model, one_at_a_time()).await;
    let mut response = open(batcher.front, ask(name)).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(event(&mut response).await, "data: {\"choices\":[{\"text\":\"0\"}]}\n\n");
    until_metric(&batcher, "sluice_batcher_stream_first_token_seconds_count", name, 1.0).await;
    until_metric(&batcher, "sluice_batcher_streams_in_flight", name, 1.0).await;
    until_metric(&batcher, "sluice_batcher_streams_limit", name, 1.0).await;
    model.let_go(TOKENS);
    let rest = response.into_body().collect().await.unwrap().to_bytes();
    assert!(rest.ends_with(b"data: [DONE]\n\n"), "{rest:?}");
    assert_eq!(model.bodies(), [Bytes::from(body(name))], "the body arrives as it was sent");
    until_outcome(&batcher, name, "ok", 1.0).await;
    // Three tokens and the usage.
    until_metric(&batcher, "sluice_batcher_stream_inter_token_seconds_count", name, 3.0).await;
    until_metric(&batcher, "sluice_batcher_streams_in_flight", name, 0.0).await;
    let tokens = async |kind: &str| {
        let labels = format!("model=\"{name}\",kind=\"{kind}\"");
        batcher.metric("sluice_batcher_stream_tokens_total", &labels).await
    };
    assert_eq!((tokens("prompt").await, tokens("completion").await), (5.0, 3.0));
}

#[tokio::test]
async fn those_above_the_limit_wait_until_another_one_ends() {
    let name = "chat-waits";
    let model = Completions::start(0).await;
    let batcher = sidecar(&model, one_at_a_time()).await;
    let all: Vec<_> = (0..3).map(|_| spawn(&batcher, name)).collect();
    until_metric(&batcher, "sluice_batcher_streams_waiting", name, 2.0).await;
    until("the first one has arrived", async || model.open() == 1).await;
    assert_eq!(model.bodies().len(), 1, "the others have not been sent");
    model.let_go(TOKENS);
    for one in all {
        assert_eq!(one.await.unwrap().status, 200);
    }
    until_outcome(&batcher, name, "ok", 3.0).await;
}

#[tokio::test]
async fn an_answer_in_one_piece_takes_a_place_too_and_its_usage_is_counted() {
    let name = "chat-whole";
    let model = Completions::start(0).await;
    let batcher = sidecar(&model, one_at_a_time()).await;
    let front = batcher.front;
    let whole = || tokio::spawn(post(front, "/v1/completions", json!({"model": name}).to_string()));
    let (first, second) = (whole(), whole());
    until_metric(&batcher, "sluice_batcher_streams_waiting", name, 1.0).await;
    model.let_go(TOKENS);
    for one in [first, second] {
        let got: Value = serde_json::from_slice(&one.await.unwrap().body).unwrap();
        assert_eq!(got["choices"][0]["text"], "abc");
    }
    until_outcome(&batcher, name, "ok", 2.0).await;
    let labels = format!("model=\"{name}\",kind=\"completion\"");
    assert_eq!(batcher.metric("sluice_batcher_stream_tokens_total", &labels).await, 6.0);
}

#[tokio::test]
async fn one_that_cannot_start_in_time_is_told_when_to_come_back() {
    let name = "chat-late";
    let model = Completions::start(0).await;
    let batcher = sidecar(&model, with_settings!(one_at_a_time(), streams.stream_wait_ms = 50)).await;
    let first = spawn(&batcher, name);
    until("it runs", async || model.open() == 1).await;
    let late = send(batcher.front, ask(name)).await;
    assert_eq!(late.status, 429, "{}", late.text());
    assert!(late.headers.contains_key("retry-after") && late.headers.contains_key("retry-after-ms"));
    model.let_go(TOKENS);
    assert_eq!(first.await.unwrap().status, 200);
    until_outcome(&batcher, name, "rejected", 1.0).await;
    let labels = format!("model=\"{name}\",reason=\"expired\"");
    assert_eq!(batcher.metric("sluice_batcher_streams_rejected_total", &labels).await, 1.0);
}

#[tokio::test]
async fn a_higher_class_starts_first_and_a_deadline_in_a_header_holds() {
    let name = "chat-classes";
    let model = Completions::start(0).await;
    let batcher = sidecar(&model, with_settings!(one_at_a_time(), order.priority_levels = 2)).await;
    let front = batcher.front;
    let send_with = |number: u64, header: &'static str, value: &'static str| {
        let body = json!({"model": name, "stream": true, "number": number}).to_string();
        let mut request = request("POST", PATH, body);
        request.headers_mut().insert(header, value.parse().unwrap());
        tokio::spawn(async move { send(front, request).await })
    };
    let mut all = vec![send_with(1, "x-sluice-priority", "2")];
    until("the first one runs", async || model.open() == 1).await;
    for (waiting, (number, level)) in [(2, "2"), (3, "1")].into_iter().enumerate() {
        all.push(send_with(number, "x-sluice-priority", level));
        until_metric(&batcher, "sluice_batcher_streams_waiting", name, waiting as f64 + 1.0).await;
    }
    let late = send_with(4, "x-request-timeout-ms", "30").await.unwrap();
    assert_eq!(late.status, 429, "{}", late.text());
    assert_eq!(send_with(5, "x-request-timeout-ms", "soon").await.unwrap().status, 400);
    model.let_go(TOKENS);
    for one in all {
        assert_eq!(one.await.unwrap().status, 200);
    }
    let numbers: Vec<u64> = model
        .bodies()
        .iter()
        .map(|body| serde_json::from_slice::<Value>(body).unwrap()["number"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [1, 3, 2]);
}

#[tokio::test]
async fn no_more_wait_than_may() {
    let name = "chat-full";
    let model = Completions::start(0).await;
    let batcher = sidecar(&model, with_settings!(one_at_a_time(), streams.max_waiting_streams = 1)).await;
    let (one, two) = (spawn(&batcher, name), spawn(&batcher, name));
    until_metric(&batcher, "sluice_batcher_streams_waiting", name, 1.0).await;
    let third = send(batcher.front, ask(name)).await;
    assert_eq!(third.status, 429);
    assert!(third.text().contains("maxWaitingStreams"), "{}", third.text());
    model.let_go(TOKENS);
    assert_eq!((one.await.unwrap().status, two.await.unwrap().status), (200, 200));
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_stream_at_the_model_at_once() {
    let name = "chat-gone";
    let model = Completions::start(1).await;
    let batcher = sidecar(&model, one_at_a_time()).await;
    let mut response = open(batcher.front, ask(name)).await.unwrap();
    event(&mut response).await;
    assert_eq!(model.open(), 1);
    drop(response);
    // The model gives no further token, so only the closed connection can show it that the client has left.
    until("the model sees it", async || model.open() == 0).await;
    until_outcome(&batcher, name, "cancelled", 1.0).await;
    until_metric(&batcher, "sluice_batcher_streams_in_flight", name, 0.0).await;
    model.let_go(TOKENS);
    assert_eq!(send(batcher.front, ask(name)).await.status, 200, "its place is free");
}

#[tokio::test]
async fn a_client_that_leaves_before_there_is_an_answer_ends_it_too() {
    let name = "chat-gone-early";
    let model = Completions::start(0).await;
    let batcher = sidecar(&model, one_at_a_time()).await;
    let asked = json!({"model": name}).to_string();
    let waiting = tokio::spawn(post(batcher.front, "/v1/completions", asked));
    until("it runs", async || model.open() == 1).await;
    waiting.abort();
    until("the model sees it", async || model.open() == 0).await;
    until_outcome(&batcher, name, "cancelled", 1.0).await;
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_never_reaches_the_model() {
    let name = "chat-left";
    let model = Completions::start(0).await;
    let batcher = sidecar(&model, one_at_a_time()).await;
    let first = spawn(&batcher, name);
    until("it runs", async || model.open() == 1).await;
    let waiting = spawn(&batcher, name);
    until_metric(&batcher, "sluice_batcher_streams_waiting", name, 1.0).await;
    waiting.abort();
    until_metric(&batcher, "sluice_batcher_streams_waiting", name, 0.0).await;
    until_outcome(&batcher, name, "cancelled", 1.0).await;
    model.let_go(TOKENS);
    assert_eq!(first.await.unwrap().status, 200);
    assert_eq!(model.bodies().len(), 1);
}

#[tokio::test]
async fn streams_are_held_while_there_is_no_server_and_demand_is_latched() {
    let name = "chat-held";
    let dir = tempfile::tempdir().unwrap();
    let members = dir.path().join("members.json");
    let settings = with_settings!(
        one_at_a_time(),
        servers.role = Role::Gateway,
        servers.members = Some(members.clone()),
        streams.stream_wait_ms = 10,
        models.models = vec![name.to_owned()]
    );
    let batcher = start(settings).await;
    let held = spawn(&batcher, name);
    until_metric(&batcher, "sluice_batcher_streams_waiting", name, 1.0).await;
    until_metric(&batcher, "sluice_batcher_demand_latched", name, 1.0).await;
    let model = Completions::start(TOKENS).await;
    let upstreams = json!({"upstreams": [{"name": "m", "address": model.address.to_string()}]});
    std::fs::write(&members, upstreams.to_string()).unwrap();
    assert_eq!(held.await.unwrap().status, 200, "longer than streamWaitMs, not longer than holdMs");
    until_metric(&batcher, "sluice_batcher_demand_latched", name, 0.0).await;
}

#[tokio::test]
async fn a_hold_that_lasts_too_long_ends_with_503() {
    let name = "chat-forlorn";
    let dir = tempfile::tempdir().unwrap();
    let settings = with_settings!(
        one_at_a_time(),
        servers.role = Role::Gateway,
        servers.members = Some(dir.path().join("none.json")),
        holding.hold_ms = 50,
        streams.stream_wait_ms = 10,
        models.models = vec![name.to_owned()]
    );
    let batcher = start(settings).await;
    let got = send(batcher.front, ask(name)).await;
    assert_eq!(got.status, 503, "{}", got.text());
    assert!(got.headers.contains_key("retry-after"));
    let labels = format!("model=\"{name}\",reason=\"hold_expired\"");
    assert_eq!(batcher.metric("sluice_batcher_streams_rejected_total", &labels).await, 1.0);
}

#[tokio::test]
async fn nothing_is_held_where_cold_models_are_to_refuse() {
    let name = "chat-cold";
    let nobody = crate::model::Model::reserve(name, Default::default()).await;
    let settings = with_settings!(
        one_at_a_time(),
        servers.upstream = Some(nobody.address.to_string()),
        holding.while_cold = WhileCold::Reject,
        models.models = vec![name.to_owned()]
    );
    let batcher = start(settings).await;
    assert_eq!(send(batcher.front, ask(name)).await.status, 503);
    let labels = format!("model=\"{name}\",reason=\"cold\"");
    assert_eq!(batcher.metric("sluice_batcher_streams_rejected_total", &labels).await, 1.0);
}

#[tokio::test]
async fn a_drain_lets_streams_end_and_serves_new_ones_meanwhile() {
    let name = "chat-drain";
    let model = Completions::start(1).await;
    let settings = with_settings!(one_at_a_time(), streams.initial_streams = 2, streams.max_streams = 2);
    let batcher = sidecar(&model, settings).await;
    let mut first = open(batcher.front, ask(name)).await.unwrap();
    event(&mut first).await;
    let drain = tokio::spawn(post(batcher.admin, "/drain?deadline_ms=60000", ""));
    until("it is not ready", async || get(batcher.front, "/v2/health/ready").await.status == 503).await;
    let mut late = open(batcher.front, ask(name)).await.unwrap();
    event(&mut late).await;
    assert!(!drain.is_finished());
    model.let_go(TOKENS);
    for stream in [first, late] {
        let rest = stream.into_body().collect().await.unwrap().to_bytes();
        assert!(rest.ends_with(b"[DONE]\n\n"));
    }
    let drained: Value = serde_json::from_str(&drain.await.unwrap().text()).unwrap();
    assert_eq!(drained["drained"], true, "{drained}");
}

#[tokio::test]
async fn a_stop_lets_streams_end() {
    let name = "chat-stop";
    let model = Completions::start(1).await;
    let batcher = sidecar(&model, with_settings!(one_at_a_time(), drain.drain_deadline_ms = 60_000)).await;
    let mut stream = open(batcher.front, ask(name)).await.unwrap();
    event(&mut stream).await;
    batcher.stop.cancel();
    until("it is not ready", async || get(batcher.admin, "/readyz").await.status == 503).await;
    assert!(!batcher.ended.is_finished());
    model.let_go(TOKENS);
    let rest = stream.into_body().collect().await.unwrap().to_bytes();
    assert!(rest.ends_with(b"[DONE]\n\n"));
    tokio::time::timeout(Duration::from_secs(30), batcher.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_server_that_dies_in_the_middle_breaks_the_stream_and_is_counted() {
    let name = "chat-broken";
    let model = Completions::start(1).await;
    let batcher = sidecar(&model, one_at_a_time()).await;
    let mut stream = open(batcher.front, ask(name)).await.unwrap();
    event(&mut stream).await;
    model.kill();
    assert!(stream.into_body().collect().await.is_err(), "a stream that is cut short must not look whole");
    until_outcome(&batcher, name, "error", 1.0).await;
    until_metric(&batcher, "sluice_batcher_streams_in_flight", name, 0.0).await;
}

#[tokio::test]
async fn long_bodies_are_not_looked_into_and_arrive_as_they_were_sent() {
    let model = Completions::start(TOKENS).await;
    let batcher = sidecar(&model, with_settings!(one_at_a_time(), streams.stream_peek_bytes = 1000)).await;
    for length in [900, 1000, 1001, 300_000] {
        let body =
            |padding: &str| format!("{{\"model\":\"chat-long\",\"stream\":true,\"pad\":\"{padding}\"}}");
        let body = body(&"x".repeat(length - body("").len()));
        assert_eq!(send(batcher.front, request("POST", PATH, body.clone())).await.status, 200);
        assert_eq!(*model.bodies().last().unwrap(), body.as_bytes(), "{length}");
    }
    until_outcome(&batcher, "chat-long", "ok", 2.0).await;
}

#[tokio::test]
async fn models_beyond_the_last_label_share_one() {
    let model = Completions::start(TOKENS).await;
    let batcher = sidecar(&model, with_settings!(one_at_a_time(), models.max_models = 2)).await;
    for number in 0..5 {
        let name = format!("chat-many-{number}");
        assert_eq!(send(batcher.front, ask(&name)).await.status, 200);
    }
    until_outcome(&batcher, "chat-many-0", "ok", 1.0).await;
    until_outcome(&batcher, "chat-many-1", "ok", 1.0).await;
    let labels = "model=\"chat-many-2\",outcome=\"ok\"";
    assert_eq!(batcher.metric("sluice_batcher_streams_total", labels).await, 0.0);
}

#[tokio::test]
async fn generate_streams_by_its_path_and_nothing_is_held_back_where_streaming_is_off() {
    let model = Completions::start(0).await;
    let path = "/v2/models/chat-generate/generate_stream";
    let off = sidecar(&model, with_settings!(one_at_a_time(), streams.streaming = Streaming::Off)).await;
    let on = sidecar(&model, one_at_a_time()).await;
    let ask = |batcher: &Batcher| {
        let front = batcher.front;
        tokio::spawn(async move { post(front, path, "{\"text_input\":\"x\"}").await })
    };
    let passed: Vec<_> = (0..3).map(|_| ask(&off)).collect();
    until("all three run", async || model.open() == 3).await;
    let gated: Vec<_> = (0..3).map(|_| ask(&on)).collect();
    until_metric(&on, "sluice_batcher_streams_waiting", "chat-generate", 2.0).await;
    assert_eq!(model.bodies().len(), 4);
    model.let_go(TOKENS);
    for one in passed.into_iter().chain(gated) {
        assert!(one.await.unwrap().text().ends_with("[DONE]\n\n"));
    }
    until_outcome(&on, "chat-generate", "ok", 3.0).await;
}
