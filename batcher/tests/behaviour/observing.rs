//! Observation of single requests: access log, `/explain`, traces, load reports.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::Response;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use sluice_batcher::settings::AccessLogSetting;
use sluice_batcher::with_settings;
use tokio::net::TcpListener;

use crate::client::{Got, get, infer_grpc, infer_json, json_body, post, request, send};
use crate::model::{Behaviour, Model};
use crate::raw::{Raw, infer_bytes};
use crate::start::{Batcher, hold_with, settings, sidecar, until};

fn infer_request(model: &str, id: i64, headers: &[(&'static str, &str)]) -> http::Request<Full<Bytes>> {
    let mut request = request("POST", &format!("/v2/models/{model}/infer"), json_body(&[id]));
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    request
}

/// Two requests that share a batch, behind one that is at the model.
async fn merge_two(
    model: &Model,
    batcher: &Batcher,
    name: &'static str,
    more: [&[(&'static str, &str)]; 2],
) -> [Got; 2] {
    let first = hold_with(model, batcher.front, name, 1).await;
    let two = tokio::spawn(send(batcher.front, infer_request(name, 2, more[0])));
    let three = tokio::spawn(send(batcher.front, infer_request(name, 3, more[1])));
    let label = format!("model=\"{name}\"");
    until("both wait", async || batcher.metric("sluice_batcher_queue_rows", &label).await == 2.0).await;
    model.open_gate();
    assert_eq!(first.await.unwrap().status, 200);
    [two.await.unwrap(), three.await.unwrap()]
}

fn lines(file: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn the_access_log_has_a_line_for_each_request_and_no_bodies() {
    let name = "access-log";
    let model = Model::start(name, Behaviour::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let batcher = sidecar(
        &model,
        with_settings!(
            settings(name),
            observe.access_log = AccessLogSetting::All,
            observe.access_log_file = Some(file.clone()),
            limits.max_body_bytes = 2000
        ),
    )
    .await;
    let id = [("x-request-id", "mine"), ("x-sluice-tenant", "blue")];
    merge_two(&model, &batcher, name, [&id, &[]]).await;
    infer_grpc(batcher.front, name, &[4]).await;
    send(batcher.front, request("PUT", "/echo?a=%20", "secret body")).await;
    assert_eq!(post(batcher.front, &format!("/v2/models/{name}/infer"), vec![b' '; 3000]).await.status, 413);
    // One whose client goes.
    model.close_gate();
    let mut client = Raw::connect(batcher.front).await;
    client.write(infer_bytes(name, 5, "x-request-id: gone\r\n")).await;
    until("it is at the model", async || model.at_gate() == 1).await;
    drop(client);
    let with = |key: &'static str, value: Value| {
        let file = file.clone();
        move || lines(&file).into_iter().find(|line| line[key] == value)
    };
    until("the last line is there", async || with("requestId", "gone".into())().is_some()).await;
    model.open_gate();

    let mine = with("requestId", "mine".into())().unwrap();
    assert_eq!(
        (&mine["method"], &mine["status"], &mine["outcome"], &mine["model"], &mine["form"]),
        (&"POST".into(), &200.into(), &"ok".into(), &name.into(), &"json".into()),
        "{mine}"
    );
    assert_eq!(
        (&mine["rows"], &mine["batchRows"], &mine["batchRequests"]),
        (&1.into(), &2.into(), &2.into())
    );
    assert_eq!(
        (&mine["tenant"], &mine["calls"], &mine["release"]),
        (&"blue".into(), &1.into(), &"slot_free".into())
    );
    assert_eq!(mine["bytes"], json_body(&[2]).len());
    assert!(mine["waitMs"].as_f64().unwrap() > 0.0 && mine["upstreamMs"].as_f64().unwrap() > 0.0, "{mine}");
    let other = with("requestId", "r3".into())().expect("the V2 id serves where there is no header");
    assert_eq!((&other["batch"], &other["upstream"]), (&mine["batch"], &mine["upstream"]));
    let grpc = with("form", "grpc".into())().unwrap();
    assert_eq!(grpc["outcome"], "ok");
    let echo = with("path", "/echo?a=%20".into())().unwrap();
    assert_eq!((&echo["status"], &echo["outcome"]), (&418.into(), &"client_error".into()));
    let large = with("status", 413.into())().unwrap();
    assert!(large["error"].as_str().unwrap().contains("maxBodyBytes"), "{large}");
    let gone = with("requestId", "gone".into())().unwrap();
    assert_eq!((&gone["outcome"], &gone["status"]), (&"cancelled".into(), &Value::Null));
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("secret body") && !text.contains("datatype"), "never bodies");
}

#[tokio::test]
async fn a_log_of_errors_has_nothing_else() {
    let name = "error-log";
    let model = Model::start(name, Behaviour::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let batcher = sidecar(
        &model,
        with_settings!(
            settings(name),
            observe.access_log = AccessLogSetting::Errors,
            observe.access_log_file = Some(file.clone())
        ),
    )
    .await;
    for id in 1..20 {
        assert_eq!(infer_json(batcher.front, name, &[id]).await.status, 200);
    }
    assert_eq!(get(batcher.front, "/nowhere").await.status, 404);
    until("its line is there", async || !lines(&file).is_empty()).await;
    let lines = lines(&file);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["path"], "/nowhere");
}

#[tokio::test]
async fn explain_tells_why_a_request_fared_as_it_did() {
    let name = "explained";
    let model = Model::start(name, Behaviour { poison: Some(66), ..Behaviour::default() }).await;
    let batcher = sidecar(&model, with_settings!(settings(name), observe.explain_requests = 16)).await;
    let [two, three] = merge_two(&model, &batcher, name, [&[("x-request-id", "a/b")], &[]]).await;
    assert_eq!([&two.headers["x-request-id"], &three.headers["x-request-id"]], ["a/b", "r3"]);
    let explained = async |id: &str| {
        let got = get(batcher.admin, &format!("/explain?id={id}")).await;
        assert_eq!(got.status, 200, "{}", got.text());
        serde_json::from_slice::<Value>(&got.body).unwrap()
    };
    until("it is kept", async || get(batcher.admin, "/explain?id=a%2Fb").await.status == 200).await;
    until("the other too", async || get(batcher.admin, "/explain?id=r3").await.status == 200).await;
    let why = explained("a%2Fb").await;
    assert_eq!(why["mergedWith"], serde_json::json!(["r3"]));
    let words = why["why"].to_string();
    for part in ["went in batch", "2 request(s) of 2 row(s)", "one call", "answered with 200 (ok)"] {
        assert!(words.contains(part), "{part}: {words}");
    }
    // A poisoned batch: it ran again in parts.
    let bad = merge_two(&model, &batcher, name, [&[("x-request-id", "good")], &[]]).await;
    assert_eq!(bad[0].status, 200);
    let poisoned = send(batcher.front, infer_request(name, 66, &[("x-request-id", "poisoned")])).await;
    assert_eq!(poisoned.status, 400);
    until("it is kept", async || get(batcher.admin, "/explain?id=poisoned").await.status == 200).await;
    assert!(explained("poisoned").await["why"].to_string().contains("answered with 400 (client_error)"));
    let generated = get(batcher.front, "/echo").await.headers["x-request-id"].to_str().unwrap().to_owned();
    until("it is kept", async || get(batcher.admin, &format!("/explain?id={generated}")).await.status == 200)
        .await;
    assert!(explained(&generated).await["why"].to_string().contains("passed through"));
    let unknown = get(batcher.admin, "/explain?id=never").await;
    assert_eq!(unknown.status, 404);
    assert!(
        unknown.text().contains("poisoned") && unknown.text().contains("explainRequests"),
        "{}",
        unknown.text()
    );
    let words = get(batcher.admin, "/explain").await.text();
    assert!(words.contains(&format!("model {name}: 0 of 1 slot(s) busy; 0 row(s) wait")), "{words}");
    assert_eq!(get(batcher.admin, "/explain?idd=x").await.status, 400);
    // The oldest make room.
    for id in 100..120 {
        infer_json(batcher.front, name, &[id]).await;
    }
    assert_eq!(get(batcher.admin, "/explain?id=a%2Fb").await.status, 404);
}

#[tokio::test]
async fn nothing_is_kept_and_nothing_added_where_nothing_is_on() {
    let name = "unobserved";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let got = infer_json(batcher.front, name, &[1]).await;
    assert!(!got.headers.contains_key("x-request-id") && !got.headers.contains_key("endpoint-load-metrics"));
    assert!(get(batcher.admin, "/explain?id=r1").await.text().contains("set explainRequests"));
    // A trace context passes as it came.
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut request = request("GET", "/echo", "");
    request.headers_mut().insert("traceparent", parent.parse().unwrap());
    assert_eq!(send(batcher.front, request).await.headers["x-got-traceparent"], parent);
}

/// A collector: what was posted to it.
async fn collector() -> (String, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let posted: Arc<Mutex<Vec<Value>>> = Arc::default();
    let received = Arc::clone(&posted);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let received = Arc::clone(&received);
            let service = service_fn(move |request: hyper::Request<Incoming>| {
                let received = Arc::clone(&received);
                async move {
                    assert_eq!(request.uri().path(), "/v1/traces");
                    assert_eq!(request.headers()["content-type"], "application/json");
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    received.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"{}"))))
                }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
        }
    });
    (address, posted)
}

fn spans(posted: &Mutex<Vec<Value>>) -> Vec<Value> {
    let posted = posted.lock().unwrap();
    let spans =
        posted.iter().flat_map(|body| body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap());
    spans.cloned().collect()
}

#[tokio::test]
async fn a_batch_has_a_span_of_its_own_with_links_to_its_requests() {
    let name = "traced";
    let model = Model::start(name, Behaviour::default()).await;
    let (endpoint, posted) = collector().await;
    let batcher =
        sidecar(&model, with_settings!(settings(name), observe.otlp_endpoint = Some(endpoint))).await;
    let blue = "00-0000000000000000000000000000b10e-00000000000000b1-01";
    let red = "00-00000000000000000000000000000ed0-00000000000000ed-01";
    merge_two(
        &model,
        &batcher,
        name,
        [&[("traceparent", blue)], &[("traceparent", red), ("tracestate", "v=1")]],
    )
    .await;
    // Row 1 has no parent, and the ratio for new traces is 0: it is not recorded.
    until("three spans have come", async || spans(&posted).len() >= 3).await;
    let spans_now = spans(&posted);
    assert_eq!(spans_now.len(), 3, "{spans_now:?}");
    let by = |key: &str, value: &str| spans_now.iter().find(|span| span[key] == value).unwrap().clone();
    let (blue, red) = (
        by("traceId", "0000000000000000000000000000b10e"),
        by("traceId", "00000000000000000000000000000ed0"),
    );
    assert_eq!((&blue["parentSpanId"], &blue["kind"]), (&"00000000000000b1".into(), &2.into()));
    assert_eq!(red["parentSpanId"], "00000000000000ed");
    let batch = by("name", "batch");
    assert_eq!((&batch["kind"], &batch["parentSpanId"]), (&3.into(), &Value::Null));
    let mut links: Vec<&Value> =
        batch["links"].as_array().unwrap().iter().map(|link| &link["spanId"]).collect();
    let mut members = vec![&blue["spanId"], &red["spanId"]];
    links.sort_by_key(|id| id.to_string());
    members.sort_by_key(|id| id.to_string());
    assert_eq!(links, members);
    let told =
        model.client_calls().into_iter().find(|call| call.ids.len() == 2).unwrap().traceparent.unwrap();
    let expected =
        format!("00-{}-{}-01", batch["traceId"].as_str().unwrap(), batch["spanId"].as_str().unwrap());
    assert_eq!(told, expected, "the model server is told the batch's span");
    for span in &spans_now {
        let time = |key: &str| span[key].as_str().unwrap().parse::<u64>().unwrap();
        assert!(time("startTimeUnixNano") <= time("endTimeUnixNano"));
    }
}

#[tokio::test]
async fn what_passes_through_goes_on_under_our_span_and_an_invalid_parent_counts_as_none() {
    let name = "traced-pass";
    let model = Model::start(name, Behaviour::default()).await;
    let (endpoint, posted) = collector().await;
    let batcher = sidecar(
        &model,
        with_settings!(
            settings(name),
            observe.otlp_endpoint = Some(endpoint),
            observe.trace_sample_ratio = 1.0
        ),
    )
    .await;
    let echo = async |parent: &str| {
        let mut request = request("GET", "/echo", "");
        request.headers_mut().insert("traceparent", parent.parse().unwrap());
        request.headers_mut().insert("tracestate", "vendor=1".parse().unwrap());
        send(batcher.front, request).await
    };
    let got = echo("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").await;
    let onward = got.headers["x-got-traceparent"].to_str().unwrap();
    assert!(onward.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{onward}");
    assert!(!onward.contains("b7ad6b7169203331"), "a new parent: {onward}");
    assert_eq!(got.headers["x-got-tracestate"], "vendor=1");
    let got = echo("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01").await;
    assert!(!got.headers["x-got-traceparent"].to_str().unwrap().contains("0af7651916cd43dd8448eb211c80319c"));
    assert!(!got.headers.contains_key("x-got-tracestate"));
    until("both spans have come", async || spans(&posted).len() == 2).await;
}

#[tokio::test]
async fn a_balancer_that_asks_is_told_the_load() {
    let name = "orca";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let ask = |format: &'static str| infer_request(name, 1, &[("endpoint-load-metrics-format", format)]);
    let text = send(batcher.front, ask("text")).await;
    let report = text.headers["endpoint-load-metrics"].to_str().unwrap().to_owned();
    assert!(
        report.starts_with("TEXT application_utilization=") && report.contains("named_metrics.queued_rows=0"),
        "{report}"
    );
    let json = send(batcher.front, ask("json")).await;
    let report =
        json.headers["endpoint-load-metrics"].to_str().unwrap().strip_prefix("JSON ").unwrap().to_owned();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert!(
        report["application_utilization"].is_number() && report["named_metrics"]["slots"] == 1.0,
        "{report}"
    );
    assert!(!send(batcher.front, ask("xml")).await.headers.contains_key("endpoint-load-metrics"));
    let framed = {
        use prost::Message;
        let message = crate::client::infer_message(name, &[1]).encode_to_vec();
        let mut framed = sluice_protocol::grpc::frame_prefix(message.len()).unwrap().to_vec();
        framed.extend_from_slice(&message);
        framed
    };
    let headers = [("endpoint-load-metrics-format", "text")];
    let grpc =
        crate::client::grpc_framed(batcher.front, sluice_protocol::grpc::path::MODEL_INFER, framed, &headers)
            .await;
    assert!(grpc.headers["endpoint-load-metrics"].to_str().unwrap().starts_with("TEXT "), "{grpc:?}");
}
