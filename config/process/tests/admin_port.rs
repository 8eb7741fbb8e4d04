//! The admin port from outside: clients that are slow or silent do not keep others from it.

#![cfg(feature = "runtime")]
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use sluice_process::Readiness;
use sluice_process::admin::{Admin, AdminResponse, AdminRoutes, plain, serve};
use sluice_process::metrics::{Metrics, install};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Most connections of an admin port.
const LIMIT: usize = 64;
/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(600);

/// Answers `/held` when it is told to.
#[derive(Default)]
struct Held {
    asked: Notify,
    go: Notify,
}

#[async_trait]
impl AdminRoutes for Held {
    async fn handle(&self, request: Request<Incoming>) -> Option<AdminResponse> {
        if request.uri().path() != "/held" {
            return None;
        }
        self.asked.notify_one();
        self.go.notified().await;
        Some(plain(StatusCode::OK, "at last\n"))
    }
}

struct Running {
    address: SocketAddr,
    held: Arc<Held>,
    stop: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn start() -> Running {
    static RECORDER: OnceLock<Metrics> = OnceLock::new();
    let metrics = RECORDER.get_or_init(|| install(&[]).unwrap()).clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let held = Arc::new(Held::default());
    let admin = Admin { metrics, readiness: Readiness::default(), routes: Arc::clone(&held) as _ };
    let stop = CancellationToken::new();
    tokio::spawn(serve(listener, admin, stop.clone()));
    Running { address, held, stop }
}

async fn connect(address: SocketAddr, first: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(first.as_bytes()).await.unwrap();
    stream
}

/// Reads one answer, or what there is of it when the connection ends.
async fn answer(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let reading = async {
        let mut piece = [0; 4096];
        while !all.ends_with(b"ok\n") && !all.ends_with(b"last\n") {
            match stream.read(&mut piece).await {
                Ok(read @ 1..) => all.extend_from_slice(&piece[..read]),
                _ => break,
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap();
    String::from_utf8(all).unwrap()
}

async fn probe(address: SocketAddr) -> String {
    answer(&mut connect(address, "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await).await
}

#[tokio::test]
async fn silent_and_dripping_clients_make_room_for_a_probe() {
    let running = start().await;
    let mut clients = Vec::new();
    for number in 0..3 * LIMIT {
        let first = if number % 2 == 0 { "" } else { "GET /metrics HTTP/1.1\r\nx-drip: " };
        clients.push(connect(running.address, first).await);
        if number % 16 == 0 {
            assert!(probe(running.address).await.starts_with("HTTP/1.1 200"), "with {number} connections");
        }
    }
    assert!(probe(running.address).await.starts_with("HTTP/1.1 200"));
    // The oldest went, the youngest are still there.
    assert_eq!(answer(&mut clients[0]).await, "");
    let last = clients.len() - 1;
    clients[last].write_all(b"1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    assert!(answer(&mut clients[last]).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_request_under_way_is_not_closed_for_others() {
    let running = start().await;
    let mut waiting = connect(running.address, "GET /held HTTP/1.1\r\nhost: x\r\n\r\n").await;
    running.held.asked.notified().await;
    let mut others = Vec::new();
    for _ in 0..2 * LIMIT {
        others.push(connect(running.address, "").await);
    }
    assert!(probe(running.address).await.starts_with("HTTP/1.1 200"));
    running.held.go.notify_one();
    assert!(answer(&mut waiting).await.ends_with("at last\n"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_no_head_is_let_go_and_one_that_asks_now_and_then_is_not() {
    let running = start().await;
    let began = Instant::now();
    let mut silent = connect(running.address, "").await;
    let mut dripping = connect(running.address, "GET /livez HTTP/1.1\r\nx-drip: ").await;
    assert_eq!(answer(&mut silent).await, "");
    assert!(answer(&mut dripping).await.is_empty());
    assert!(began.elapsed() >= Duration::from_secs(10), "{:?}", began.elapsed());
    let mut scraper = connect(running.address, "").await;
    for _ in 0..3 {
        scraper.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert!(answer(&mut scraper).await.starts_with("HTTP/1.1 200"));
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
}
