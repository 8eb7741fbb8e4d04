//! Headers that concern one connection are not passed on, both ways and between both versions of HTTP; no client can
//! make the batcher drop a header that says what the request is.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::Full;
use serde_json::json;
use sluice_batcher::with_settings;

use crate::client::{Got, request, send, send_http2};
use crate::model::{Behaviour, Model};
use crate::raw::{exchange, status};
use crate::start::{Batcher, settings, sidecar};

async fn start(name: &str) -> (Model, Batcher) {
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    (model, batcher)
}

fn with(mut request: Request<Full<Bytes>>, headers: &[(&'static str, &'static str)]) -> Request<Full<Bytes>> {
    for &(name, value) in headers {
        request.headers_mut().append(name, HeaderValue::from_static(value));
    }
    request
}

/// Returns the headers that the model server has received, from its echo.
fn received(got: &Got) -> HeaderMap {
    let fields = got.headers.iter().filter_map(|(name, value)| {
        Some((name.as_str().strip_prefix("x-got-")?.parse().unwrap(), value.clone()))
    });
    fields.collect()
}

const HOPS: [(&str, &str); 12] = [
    ("connection", "X-One , x-two"),
    ("connection", "keep-alive"),
    ("connection", "x-three,, ,http2-settings,upgrade"),
    ("keep-alive", "timeout=5"),
    ("proxy-connection", "keep-alive"),
    ("proxy-authorization", "Basic c2VjcmV0"),
    ("te", "gzip"),
    ("upgrade", "h2c"),
    ("http2-settings", "AAMAAABkAAQAAP__"),
    ("x-one", "1"),
    ("x-two", "1"),
    ("x-three", "1"),
];

#[tokio::test]
async fn what_speaks_of_a_clients_connection_does_not_reach_the_server() {
    let (_model, batcher) = start("hops-there").await;
    let got = send(batcher.front, with(request("PUT", "/echo", "body"), &HOPS)).await;
    assert_eq!((got.status, &got.body[..]), (418, &b"body"[..]));
    let received = received(&got);
    for (name, _) in HOPS {
        assert!(!received.contains_key(name), "{name}: {received:?}");
    }
}

#[tokio::test]
async fn a_value_of_connection_that_is_no_text_hides_no_other_one() {
    let (_model, batcher) = start("hops-odd").await;
    let bytes = b"GET /echo HTTP/1.1\r\nhost: x\r\nconnection: caf\xe9, x-one\r\nconnection: close\r\nx-one: 1\r\n\r\n";
    let answer = exchange(batcher.front, bytes).await;
    assert_eq!(status(&answer), 418);
    assert!(!answer.contains("x-got-x-one"), "{answer}");
}

#[tokio::test]
async fn trailers_are_asked_for_where_the_client_takes_them() {
    let (_model, batcher) = start("hops-te").await;
    for (te, passes) in [("trailers", true), ("gzip, Trailers", true), ("gzip", false), ("x-trailers", false)]
    {
        let got = send(batcher.front, with(request("GET", "/echo", ""), &[("te", te)])).await;
        let received = received(&got);
        assert_eq!(received.get("te").is_some_and(|te| te == "trailers"), passes, "{te}: {received:?}");
        assert_eq!(
            received.get("connection").is_some_and(|named| named == "te"),
            passes,
            "{te}: {received:?}"
        );
    }
    let got = send_http2(batcher.front, with(request("GET", "/echo", ""), &[("te", "trailers")])).await;
    assert_eq!(received(&got)["te"], "trailers");
}

#[tokio::test]
async fn no_client_can_have_a_header_left_behind_that_says_what_its_request_is() {
    let name = "hops-kept";
    let (model, batcher) = start(name).await;
    let named = "host, content-length, content-type, content-encoding, authorization, cookie, \
                 inference-header-content-length, x-forwarded-for, x-api-key, traceparent, x-one";
    let kept = [
        ("connection", named),
        ("content-type", "text/plain"),
        ("content-encoding", "x-own"),
        ("authorization", "Bearer t"),
        ("cookie", "a=1"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-api-key", "k"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ];
    let got =
        send(batcher.front, with(with(request("PUT", "/echo", "body"), &kept), &[("x-one", "1")])).await;
    assert_eq!(got.body, "body");
    let received = received(&got);
    assert_eq!(received["host"], "test");
    for (name, value) in &kept[1..] {
        assert_eq!(received[*name], *value, "{name}");
    }
    assert!(!received.contains_key("x-one"), "all others are the client's to name");
    // Where the binary part of a body begins, of a request that goes alone.
    let head = json!({"parameters": {"sequence_id": 7}, "inputs": [{"name": "id", "datatype": "INT64", "shape": [1, 1],
        "parameters": {"binary_data_size": 8}}]})
    .to_string();
    let body = [head.as_bytes(), &21_i64.to_le_bytes()].concat();
    let mut request = request("POST", &format!("/v2/models/{name}/infer"), body);
    request.headers_mut().insert("inference-header-content-length", head.len().into());
    let got =
        send(batcher.front, with(request, &[("connection", named), ("authorization", "Bearer t")])).await;
    assert_eq!(got.output("twice"), [42], "{}", got.text());
    let call = model.client_calls().pop().unwrap();
    assert_eq!((call.form, call.authorization.as_deref()), ("binary", Some("Bearer t")));
}

#[tokio::test]
async fn headers_that_tell_whose_a_lone_request_is_go_with_it_whatever_connection_names() {
    let name = "hops-shared";
    let model = Model::start(name, Behaviour::default()).await;
    let shared = vec!["x-user".to_owned(), "authorization".to_owned()];
    let batcher = sidecar(&model, with_settings!(settings(name), access.shared_headers = shared)).await;
    let body = json!({"parameters": {"sequence_id": 7}, "inputs": [{"name": "id", "datatype": "INT64", "shape": [1, 1],
        "data": [21]}]});
    let asked = request("POST", &format!("/v2/models/{name}/infer"), body.to_string());
    let headers =
        [("connection", "authorization"), ("connection", "x-user"), ("authorization", "t"), ("x-user", "u")];
    let got = send(batcher.front, with(asked, &headers)).await;
    assert_eq!(got.output("twice"), [42]);
    let call = model.client_calls().pop().unwrap();
    assert_eq!(
        (call.authorization.as_deref(), &call.headers["x-user"]),
        (Some("t"), &HeaderValue::from_static("u"))
    );
}

#[tokio::test]
async fn what_speaks_of_the_servers_connection_does_not_reach_the_client() {
    let (_model, batcher) = start("hops-back").await;
    let hops = [
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy-authentication-info",
        "upgrade",
        "te",
        "x-internal",
        "x-more",
    ];
    let over_http1 = send(batcher.front, request("GET", "/hops", "")).await;
    let over_http2 = send_http2(batcher.front, request("GET", "/hops", "")).await;
    for got in [over_http1, over_http2] {
        assert_eq!((got.status, got.text().as_str()), (200, "{}"));
        for name in hops.iter().chain(&["connection"]) {
            assert!(!got.headers.contains_key(*name), "{name}: {got:?}");
        }
        // What says what the answer is, and cookies, cannot be named away either.
        assert_eq!(
            (&got.headers["x-kept"], &got.headers["content-type"]),
            (&"1".parse().unwrap(), &"application/json".parse().unwrap())
        );
        assert_eq!(got.headers["set-cookie"], "a=1");
    }
    let old = exchange(batcher.front, "GET /hops HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200"), "{old}");
    assert!(hops.iter().all(|name| !old.contains(&format!("\r\n{name}:"))), "{old}");
}

#[tokio::test]
async fn trailers_that_speak_of_the_servers_connection_do_not_reach_the_client() {
    let (_model, batcher) = start("hops-trailers").await;
    let asked = with(request("GET", "/with-trailers", ""), &[("te", "trailers")]);
    let got = send_http2(batcher.front, asked).await;
    assert_eq!((got.text().as_str(), &got.trailers["x-checksum"]), ("body", &"42".parse().unwrap()));
    assert_eq!(got.trailers.len(), 1, "{got:?}");
    let asked = "GET /with-trailers HTTP/1.1\r\nhost: x\r\nte: trailers\r\nconnection: close\r\n\r\n";
    let answer = exchange(batcher.front, asked).await;
    assert!(answer.contains("x-checksum: 42") && !answer.contains("timeout=5"), "{answer}");
}

#[tokio::test]
async fn a_server_that_switches_protocols_unasked_is_a_bad_gateway() {
    let (_model, batcher) = start("hops-switch").await;
    for _ in 0..3 {
        let got = send(batcher.front, request("GET", "/status/101", "")).await;
        assert_eq!(got.status, 502, "{got:?}");
        assert!(got.text().contains("101 Switching Protocols"), "{}", got.text());
        let upgrade = [("connection", "upgrade"), ("upgrade", "own")];
        let got = send(batcher.front, with(request("GET", "/status/101", ""), &upgrade)).await;
        assert_eq!(got.status, 502, "{got:?}");
    }
    assert_eq!(send(batcher.front, request("GET", "/echo", "")).await.status, 418);
}
