//! The host that a request is for: `Host`, the authority of an absolute target or of HTTP/2, and invalid targets.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::client::infer_json;
use crate::model::{Behaviour, Model};
use crate::raw::{Raw, exchange, infer_bytes, status};
use crate::start::{Batcher, settings, sidecar};

async fn start(name: &str) -> (Model, Batcher) {
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    (model, batcher)
}

/// The value of a header of the answer.
fn field<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[tokio::test]
async fn a_host_that_is_missing_double_or_invalid_is_400_and_the_connections_end() {
    let name = "hosts-bad";
    let (model, batcher) = start(name).await;
    let hosts = [
        "",
        "host: a\r\nhost: b\r\n",
        "host: a\r\nHost: a\r\n",
        "host:\r\nhost:\r\n",
        "host: a b\r\n",
        "host: a, b\r\n",
        "host: a,b\r\n",
        "host: a/b\r\n",
        "host: /\r\n",
        "host: http://a\r\n",
        "host: user@a\r\n",
        "host: a?b\r\n",
        "host: a#b\r\n",
        "host: a\\b\r\n",
        "host: \"a\"\r\n",
        "host: <a>\r\n",
        "host: a:b\r\n",
        "host: a:80:80\r\n",
        "host: a:-1\r\n",
        "host: a:99999\r\n",
        "host: :80\r\n",
        "host: [::1\r\n",
        "host: [::1]a\r\n",
        "host: []\r\n",
        "host: ::1\r\n",
        "host: a%zz\r\n",
        "host: a%4\r\n",
        "host: a%20b\r\n",
        "host: %61\r\n",
        "host: caf\u{e9}\r\n",
    ];
    for host in hosts {
        for head in
            ["GET /v2/health/live", "GET /echo", "GET http://x/echo", "OPTIONS *", "GET /v2/models/x/ready"]
        {
            let answer = exchange(
                batcher.front,
                format!("{head} HTTP/1.1\r\n{host}\r\n{head} HTTP/1.1\r\nhost: x\r\n\r\n"),
            )
            .await;
            assert_eq!(status(&answer), 400, "{head} {host:?}: {answer}");
            assert_eq!(
                answer.matches("HTTP/1.1 ").count(),
                1,
                "{host:?}: one answer, then the end: {answer}"
            );
            assert_eq!(field(&answer, "connection"), Some("close"), "{answer}");
            assert!(answer.contains("Host"), "it says why: {answer}");
        }
        let infer = infer_bytes(name, 1, "connection: close\r\n").replace("host: test\r\n", host);
        assert_eq!(status(&exchange(batcher.front, infer).await), 400, "{host:?}");
    }
    // Two of them in HTTP/1.0 are no better.
    let old = exchange(batcher.front, "GET /echo HTTP/1.0\r\nhost: a\r\nhost: b\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 400"), "{old}");
    assert!(model.client_calls().is_empty());
    assert_eq!(infer_json(batcher.front, name, &[7]).await.output("twice"), [14]);
}

#[tokio::test]
async fn valid_hosts_reach_the_server_as_they_are() {
    let (_model, batcher) = start("hosts-good").await;
    for host in [
        "a.example",
        "A.Example:8000",
        "a_b-c.example.",
        "127.0.0.1:1",
        "[::1]",
        "[2001:db8::1]:65535",
        "[fe80::1%25eth0]:80",
        "[v1.x:y]",
        "a:",
        "a!$&'()*+;=~",
    ] {
        let asked = format!("GET /echo HTTP/1.1\r\nHoSt:   {host} \r\nconnection: close\r\n\r\n");
        let answer = exchange(batcher.front, asked).await;
        assert_eq!((status(&answer), field(&answer, "x-got-host")), (418, Some(host)), "{answer}");
    }
    // A target without authority has an empty one.
    let answer = exchange(batcher.front, "GET /echo HTTP/1.1\r\nhost:\r\nconnection: close\r\n\r\n").await;
    assert_eq!(status(&answer), 418, "{answer}");
}

#[tokio::test]
async fn http_1_0_needs_none_and_the_server_gets_one() {
    let (model, batcher) = start("hosts-old").await;
    let answer = exchange(batcher.front, "GET /echo HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 418"), "{answer}");
    assert_eq!(field(&answer, "x-got-host"), Some(model.upstream().as_str()), "{answer}");
    let answer = exchange(batcher.front, "GET /v2/health/live HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    let infer = infer_bytes("hosts-old", 7, "").replace("HTTP/1.1", "HTTP/1.0").replace("host: test\r\n", "");
    assert!(exchange(batcher.front, infer).await.starts_with("HTTP/1.0 200"));
}

#[tokio::test]
async fn an_absolute_targets_authority_is_the_host() {
    let name = "hosts-absolute";
    let (model, batcher) = start(name).await;
    for (target, host) in [
        ("http://a.example:81/echo?x=1", "a.example:81"),
        ("https://b.example/echo?x=1", "b.example"),
        ("HTTP://[::1]:82/echo?x=1", "[::1]:82"),
    ] {
        let asked = format!("GET {target} HTTP/1.1\r\nhost: other\r\nconnection: close\r\n\r\n");
        let answer = exchange(batcher.front, asked).await;
        assert_eq!(status(&answer), 418, "{target}: {answer}");
        assert_eq!(
            (field(&answer, "x-uri"), field(&answer, "x-got-host")),
            (Some("/echo?x=1"), Some(host)),
            "{answer}"
        );
    }
    let infer = infer_bytes(name, 5, "connection: close\r\n").replace("POST /", "POST http://a.example/");
    assert_eq!(status(&exchange(batcher.front, infer).await), 200);
    assert_eq!(model.client_calls().len(), 1);
}

#[tokio::test]
async fn what_is_no_target_for_its_method_is_400_and_the_connections_end() {
    let (model, batcher) = start("hosts-targets").await;
    let targets = [
        ("GET", "a.example:80"),
        ("POST", "a.example"),
        ("GET", "localhost"),
        ("OPTIONS", "a.example:80"),
        ("GET", "echo"),
        ("GET", "*"),
        ("POST", "*"),
        ("HEAD", "*"),
        ("GET", "**"),
        ("OPTIONS", "**"),
        ("GET", "http://user@a.example/echo"),
        ("GET", "http://user:word@a.example/echo"),
        ("GET", "http://a.example:b/echo"),
        ("GET", "http:///echo"),
        ("GET", "ftp://a.example/echo"),
        ("GET", "unix://a.example/echo"),
        ("GET", "http:/echo"),
        ("GET", "?x=1"),
        ("GET", "#x"),
        ("GET", "echo/x"),
    ];
    for (method, target) in targets {
        let asked = format!("{method} {target} HTTP/1.1\r\nhost: a.example\r\n\r\n");
        let answer = exchange(batcher.front, format!("{asked}GET /echo HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        assert_eq!(status(&answer), 400, "{method} {target}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{method} {target}: {answer}");
    }
    assert!(model.client_calls().is_empty());
    // What the server as a whole can do is asked of the server.
    let answer = exchange(batcher.front, "OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.contains("nothing at *, says the model server"), "{answer}");
}

#[tokio::test]
async fn http2_has_one_authority_or_the_request_is_400() {
    let (model, batcher) = start("hosts-http2").await;
    let send = |uri: String, hosts: &'static [&'static str]| async move {
        let stream = TcpStream::connect(batcher.front).await.unwrap();
        let (mut sender, connection) =
            http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::get(uri).body(Full::default()).unwrap();
        // Without an authority, the request is written as by a proxy that got it over HTTP/1.
        *request.version_mut() = http::Version::HTTP_11;
        for host in hosts {
            request.headers_mut().append("host", host.parse().unwrap());
        }
        let response = sender.send_request(request).await.unwrap();
        let host = response.headers().get("x-got-host").map(|host| host.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        response.into_body().collect().await.unwrap();
        (status, host)
    };
    let good = |host: &str| (418, Some(host.to_owned()));
    assert_eq!(send("http://a.example:81/echo".into(), &[]).await, good("a.example:81"));
    assert_eq!(send("http://a.example:81/echo".into(), &["A.example:81"]).await, good("a.example:81"));
    assert_eq!(send("/echo".into(), &["b.example"]).await, good("b.example"));
    assert_eq!(send("/echo".into(), &[]).await, good(&model.upstream()), "as of HTTP/1.0");
    for (uri, hosts) in [
        ("http://a.example/echo", &["b.example"][..]),
        ("http://a.example/echo", &["a.example", "a.example"]),
        ("/echo", &["a", "b"]),
        ("/echo", &["a b"]),
        ("http://user@a.example/echo", &[]),
        ("http://a.example:b/echo", &[]),
    ] {
        assert_eq!(send(uri.to_owned(), hosts).await.0, 400, "{uri} {hosts:?}");
    }
}

#[tokio::test]
async fn a_refused_requests_body_is_no_request() {
    let name = "hosts-body";
    let (model, batcher) = start(name).await;
    let hidden = infer_bytes(name, 1, "");
    let mut client = Raw::connect(batcher.front).await;
    client.write(format!("POST /echo HTTP/1.1\r\ncontent-length: {}\r\n\r\n{hidden}", hidden.len())).await;
    let answer = String::from_utf8_lossy(&client.read_to_end().await).into_owned();
    assert_eq!((status(&answer), answer.matches("HTTP/1.1 ").count()), (400, 1), "{answer}");
    assert!(model.client_calls().is_empty());
}
