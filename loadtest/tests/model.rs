//! The reference model server at its socket.

#![allow(clippy::unwrap_used)] // A test that cannot go on fails there.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use sluice_loadtest::model::curve::Curve;
use sluice_loadtest::model::settings::Settings;
use sluice_loadtest::model::slot::{Accuracy, ExecutionSlot};
use sluice_loadtest::model::{Model, StartError};
use sluice_process::Readiness;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct Server {
    address: SocketAddr,
    slot: ExecutionSlot,
    stop: CancellationToken,
    serving: JoinHandle<Accuracy>,
}

async fn start(settings: Settings) -> Server {
    let settings = Settings { listen: "127.0.0.1:0".into(), ..settings };
    let model = Model::bind(&settings, Some("7g.80gb")).await.unwrap();
    let (address, slot, stop) = (model.address().unwrap(), model.slot(), CancellationToken::new());
    let readiness = Readiness::default();
    let serving = tokio::spawn(model.serve(readiness.clone(), stop.clone()));
    while settings.load_ms == 0 && readiness.get().is_err() {
        tokio::task::yield_now().await;
    }
    Server { address, slot, stop, serving }
}

fn fast() -> Settings {
    Settings { alpha_ms: 0.1, beta_ms: 0.01, ..Settings::default() }
}

async fn http(address: SocketAddr, method: &str, path: &str, body: String) -> String {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all((head + &body).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    })
    .await
    .unwrap()
}

fn rows(ids: &[i64]) -> String {
    let rows = ids.len();
    let x = vec!["0.5"; rows * 16].join(",");
    format!(
        r#"{{"inputs":[{{"name":"id","shape":[{rows},1],"datatype":"INT64","data":{ids:?}}},
                       {{"name":"x","shape":[{rows},16],"datatype":"FP32","data":[{x}]}}]}}"#
    )
}

async fn wait_until(condition: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "it never came to that");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

const INFER: &str = "/v2/models/reference/infer";

#[tokio::test(flavor = "multi_thread")]
async fn it_describes_itself_as_the_protocol_asks() {
    let server = start(fast()).await;
    let get = |path: &'static str| http(server.address, "GET", path, String::new());
    assert!(get("/v2").await.contains("binary_tensor_data"));
    assert!(get("/v2/health/ready").await.starts_with("HTTP/1.1 200"));
    let metadata = get("/v2/models/reference").await;
    assert!(metadata.contains(r#"{"datatype":"FP32","name":"x","shape":[-1,16]}"#), "{metadata}");
    assert!(get("/v2/models/reference/config").await.contains(r#""max_batch_size":64"#));
    assert!(get("/v2/models/other").await.starts_with("HTTP/1.1 404"));
    assert!(get("/v3").await.contains("not a path of the Open Inference Protocol"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_request_is_a_400_that_names_the_input() {
    let server = start(Settings { max_batch_rows: 2, poison_id: Some(13), ..fast() }).await;
    for (body, reason) in [
        (rows(&[1, 2, 3]), "batch of 3 rows: this model takes at most 2"),
        (rows(&[1, 13]), "row 1 has the poisoned id 13"),
        (rows(&[1]).replace("INT64", "INT32"), "input `id`: datatype INT32, expected INT64"),
        ("not json".into(), "not an inference request"),
    ] {
        let answer = http(server.address, "POST", INFER, body).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains(reason), "{answer}");
    }
    assert!(http(server.address, "POST", INFER, rows(&[1, 2])).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_inferred_before_the_load_is_done() {
    let server = start(Settings { load_ms: 3_600_000, ..fast() }).await;
    let ready = http(server.address, "GET", "/v2/health/ready", String::new()).await;
    assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
    let answer = http(server.address, "POST", INFER, rows(&[1])).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("still loading"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_refuses_to_start_without_a_slice_or_with_an_unknown_one() {
    let settings = Settings { listen: "127.0.0.1:0".into(), ..fast() };
    for profile in [None, Some("")] {
        let error = Model::bind(&settings, profile).await.unwrap_err();
        assert!(matches!(error, StartError::NoSlice), "{error}");
        assert!(error.to_string().contains("SLUICE_PROFILE is not set"), "{error}");
    }
    let error = Model::bind(&settings, Some("2g")).await.unwrap_err().to_string();
    assert!(error.contains("`2g`") && error.contains("2g.10gb"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_is_one_line_of_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal.jsonl");
    let server = start(Settings { journal: Some(journal.clone()), ..fast() }).await;
    http(server.address, "POST", INFER, rows(&[4, 5])).await;
    http(server.address, "POST", INFER, rows(&[6])).await;
    let text = std::fs::read_to_string(&journal).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["ids"], serde_json::json!([4, 5]));
    assert_eq!((&lines[0]["form"], &lines[0]["rows"]), (&"json".into(), &2.into()));
    assert_eq!(lines[0]["service_us"], 120);
    assert!(lines[1]["t_us"].as_u64() > lines[0]["t_us"].as_u64());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_holds_is_answered_when_it_is_told_to_stop() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal.jsonl");
    let server = start(Settings { alpha_ms: 300.0, journal: Some(journal.clone()), ..fast() }).await;
    let executing = || std::fs::read_to_string(&journal).is_ok_and(|text| text.ends_with('\n'));
    let first = tokio::spawn(http(server.address, "POST", INFER, rows(&[1])));
    wait_until(executing).await;
    let second = tokio::spawn(http(server.address, "POST", INFER, rows(&[2])));
    wait_until(|| server.slot.waiting() == 1 || second.is_finished()).await;
    server.stop.cancel();
    for call in [first, second] {
        assert!(call.await.unwrap().starts_with("HTTP/1.1 200"));
    }
    assert_eq!(server.serving.await.unwrap().rows, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_curve_holds_for_the_next_call() {
    let server = start(fast()).await;
    http(server.address, "POST", INFER, rows(&[1])).await;
    server.slot.set_curve(Curve { alpha_ms: 5.0, beta_ms: 1.0 }).unwrap();
    http(server.address, "POST", INFER, rows(&[1])).await;
    server.stop.cancel();
    let accuracy = server.serving.await.unwrap();
    assert_eq!(accuracy.asked_total, Duration::from_micros(110 + 6000));
    assert!(accuracy.achieved_total >= accuracy.asked_total, "a call is never shorter than asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_completes_text_as_openai_does_whole_and_in_events() {
    let settings = Settings { stream_first_token_ms: 1, stream_token_ms: 1, stream_tokens: 4, ..fast() };
    let server = start(settings).await;
    let post = |path: &'static str, body: &str| http(server.address, "POST", path, body.to_owned());
    let chat = r#"{"model":"reference","messages":[{"role":"user","content":"a b"}]}"#;
    let whole = post("/v1/chat/completions", chat).await;
    assert!(
        whole.contains(r#""content":"t0 t1 t2 t3""#) && whole.contains(r#""finish_reason":"stop""#),
        "{whole}"
    );
    assert!(whole.contains(r#""prompt_tokens":2"#) && whole.contains(r#""completion_tokens":4"#), "{whole}");
    let stream = r#"{"model":"reference","prompt":"a","stream":true,"max_tokens":2,"stream_options":{"include_usage":true}}"#;
    let events = post("/v1/completions", stream).await;
    assert!(events.contains("content-type: text/event-stream"), "{events}");
    // Two tokens, the end, the usage, and the mark.
    assert_eq!(events.matches("data: ").count(), 5, "{events}");
    assert!(events.contains(r#""text":" t1""#) && events.contains(r#""finish_reason":"length""#), "{events}");
    assert!(events.contains(r#""completion_tokens":2"#) && events.contains("data: [DONE]"), "{events}");
    let unknown = post("/v1/chat/completions", r#"{"model":"other","messages":[]}"#).await;
    assert!(unknown.starts_with("HTTP/1.1 404") && unknown.contains("invalid_request_error"), "{unknown}");
    assert!(post("/v1/completions", "{").await.starts_with("HTTP/1.1 400"));
    let models = http(server.address, "GET", "/v1/models", String::new()).await;
    assert!(models.contains(r#""id":"reference""#), "{models}");
    server.stop.cancel();
    server.serving.await.unwrap();
}
