//! Model servers that close each connection after one answer: HTTP/1.0, `Connection: close`, without notice, GOAWAY.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use sluice_batcher::settings::FormSetting;
use sluice_batcher::with_settings;
use sluice_protocol::grpc::{self, ServerMetadataRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::client::{get, grpc_output, infer_grpc, infer_json};
use crate::model::{Behaviour, Model};
use crate::start::{settings, sidecar, start, until};

/// One that serves a connection at a time, as simple servers do, and closes it after one answer with this head.
struct Simple {
    address: SocketAddr,
    /// Questions whether it is ready.
    asked: Arc<AtomicUsize>,
}

impl Simple {
    async fn start(name: &'static str, version: &'static str, connection: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&asked);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let Some((path, body)) = read(&mut stream).await else { continue };
                counts.fetch_add(usize::from(path == "/v2/health/ready"), Ordering::SeqCst);
                let (status, answer) = answer(name, &path, &body);
                let head =
                    format!("{version} {status}\r\ncontent-length: {}\r\n{connection}\r\n", answer.len());
                let _ = stream.write_all(format!("{head}{answer}").as_bytes()).await;
            }
        });
        Self { address, asked }
    }
}

/// Reads one request; returns its path and body, or `None` if the connection ends before one.
async fn read(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut read = Vec::new();
    loop {
        if let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if read.len() >= end + 4 + length.unwrap_or(0) {
                let path = head.split_whitespace().nth(1)?.to_owned();
                return Some((path, read.split_off(end + 4)));
            }
        }
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    }
}

fn answer(name: &str, path: &str, body: &[u8]) -> (&'static str, String) {
    let tensor = |name: &str| json!({"name": name, "datatype": "INT64", "shape": [-1, 1]});
    let model = format!("/v2/models/{name}");
    let infer = format!("{model}/infer");
    match path {
        "/v2/health/ready" | "/v2" => ("200 OK", "{}".to_owned()),
        path if path == model => (
            "200 OK",
            json!({"name": name, "inputs": [tensor("id")], "outputs": [tensor("twice")]}).to_string(),
        ),
        path if path == infer => {
            let asked: Value = serde_json::from_slice(body).unwrap();
            let input = &asked["inputs"][0];
            let twice: Vec<i64> =
                input["data"].as_array().unwrap().iter().map(|id| 2 * id.as_i64().unwrap()).collect();
            let output =
                json!({"name": "twice", "datatype": "INT64", "shape": input["shape"], "data": twice});
            ("200 OK", json!({"model_name": name, "outputs": [output]}).to_string())
        }
        _ => ("404 Not Found", "{\"error\":\"nothing here\"}".to_owned()),
    }
}

#[tokio::test]
async fn a_server_that_closes_after_each_answer_becomes_ready_and_stays_so() {
    let name = "closing";
    for (version, connection) in [("HTTP/1.0", ""), ("HTTP/1.1", "connection: close\r\n"), ("HTTP/1.1", "")] {
        let model = Simple::start(name, version, connection).await;
        let batcher =
            start(with_settings!(settings(name), servers.upstream = Some(model.address.to_string()))).await;
        batcher.until_ready().await;
        let asked = model.asked.load(Ordering::SeqCst);
        for id in 1..30 {
            assert_eq!(infer_json(batcher.front, name, &[id]).await.output("twice"), [2 * id]);
            let passed = get(batcher.front, &format!("/v2/models/{name}")).await;
            assert_eq!(passed.status, 200, "{version} {connection}: {}", passed.text());
        }
        until("it is asked again", async || model.asked.load(Ordering::SeqCst) > asked + 1).await;
        assert_eq!(get(batcher.front, "/v2/health/ready").await.status, 200);
        assert_eq!(batcher.upstreams().await["upstreams"][0]["epoch"], 1, "{version} {connection}");
    }
}

#[tokio::test]
async fn a_server_that_ends_connections_after_each_call_is_used_over_others() {
    let name = "goes-away";
    for (grpc_only, form) in
        [(false, FormSetting::Auto), (false, FormSetting::Grpc), (true, FormSetting::Auto)]
    {
        let one_answer = Behaviour { one_answer: true, grpc_only, ..Behaviour::default() };
        let model = Model::start(name, one_answer).await;
        let batcher = sidecar(&model, with_settings!(settings(name), servers.upstream_form = form)).await;
        let clients = (0..4).map(|client| {
            let front = batcher.front;
            tokio::spawn(async move {
                for id in (client * 100 + 1)..(client * 100 + 20) {
                    let got = infer_grpc(front, name, &[id]).await;
                    assert_eq!(grpc_output(&got, "twice"), [2 * id]);
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.unwrap();
        }
        for _ in 0..20 {
            let passed =
                crate::client::grpc(batcher.front, grpc::path::SERVER_METADATA, &ServerMetadataRequest {})
                    .await;
            assert_eq!(passed.grpc_status(), 0, "{passed:?}");
        }
        assert_eq!(batcher.upstreams().await["upstreams"][0]["epoch"], 1, "{grpc_only} {form:?}");
    }
}
