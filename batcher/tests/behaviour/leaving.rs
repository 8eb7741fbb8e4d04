//! Clients that leave before they are answered: their rows cost the model nothing, however the clients leave.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::client::{infer_json, json_body};
use crate::model::{Behaviour, Model};
use crate::raw::{Raw, infer_bytes};
use crate::start::{Batcher, hold_with, settings, sidecar, until};

/// A model that is held at its gate with row 1, so that all others wait in the batcher.
struct Held {
    name: &'static str,
    model: Model,
    batcher: Batcher,
    first: JoinHandle<crate::client::Got>,
}

impl Held {
    async fn start(name: &'static str) -> Self {
        let model = Model::start(name, Behaviour::default()).await;
        let batcher = sidecar(&model, settings(name)).await;
        let first = hold_with(&model, batcher.front, name, 1).await;
        Self { name, model, batcher, first }
    }

    async fn until_waiting(&self, rows: f64) {
        let label = format!("model=\"{}\"", self.name);
        until("they wait", async || self.batcher.metric("sluice_batcher_queue_rows", &label).await == rows)
            .await;
    }

    async fn until_cancelled(&self, requests: f64) {
        let label = format!("model=\"{}\",form=\"json\",outcome=\"cancelled\"", self.name);
        until("it is noticed", async || {
            self.batcher.metric("sluice_batcher_requests_total", &label).await == requests
        })
        .await;
    }

    /// Opens the gate; the rows that the model has seen when one more request has been answered.
    async fn rows(self) -> Vec<i64> {
        self.model.open_gate();
        assert_eq!(self.first.await.unwrap().status, 200);
        assert_eq!(infer_json(self.batcher.front, self.name, &[100]).await.status, 200);
        self.model.client_calls().into_iter().flat_map(|call| call.ids).collect()
    }
}

/// An HTTP/2 connection, and its socket to cut it.
async fn http2(held: &Held) -> (SendRequest<Full<Bytes>>, std::net::TcpStream) {
    let stream = TcpStream::connect(held.batcher.front).await.unwrap().into_std().unwrap();
    let cut = stream.try_clone().unwrap();
    let stream = TokioIo::new(TcpStream::from_std(stream).unwrap());
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    (sender, cut)
}

fn request(held: &Held, id: i64) -> Request<Full<Bytes>> {
    let uri = format!("http://{}/v2/models/{}/infer", held.batcher.front, held.name);
    Request::post(uri).body(Full::new(json_body(&[id]).into())).unwrap()
}

#[tokio::test]
async fn http1_clients_may_end_reset_or_half_close() {
    let held = Held::start("leave-http1").await;
    let mut clients = Vec::new();
    for id in 2..5 {
        let mut client = Raw::connect(held.batcher.front).await;
        client.write(infer_bytes(held.name, id, "")).await;
        clients.push(client);
    }
    held.until_waiting(3.0).await;
    let mut half_closed = clients.pop().unwrap();
    let reset = clients.pop().unwrap();
    drop(clients);
    held.until_cancelled(1.0).await;
    reset.reset();
    held.until_cancelled(2.0).await;
    // A client that shuts its sending side cannot be told from one that has left.
    half_closed.0.shutdown().await.unwrap();
    held.until_cancelled(3.0).await;
    assert_eq!(half_closed.read_to_end().await, b"");
    assert_eq!(held.rows().await, [1, 100]);
}

#[tokio::test]
async fn an_http2_stream_that_is_reset_leaves_its_neighbours_alone() {
    let held = Held::start("leave-stream").await;
    let (mut sender, _cut) = http2(&held).await;
    let stays = sender.send_request(request(&held, 2));
    let leaves = tokio::spawn(sender.send_request(request(&held, 3)));
    let stays = tokio::spawn(stays);
    held.until_waiting(2.0).await;
    // Dropping the future resets the stream (CANCEL).
    leaves.abort();
    held.until_cancelled(1.0).await;
    assert_eq!(held.rows().await, [1, 2, 100]);
    assert_eq!(stays.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn an_http2_connection_that_is_lost_takes_all_its_requests_with_it() {
    let held = Held::start("leave-http2").await;
    let (mut sender, cut) = http2(&held).await;
    let waiting: Vec<_> = (2..6).map(|id| tokio::spawn(sender.send_request(request(&held, id)))).collect();
    held.until_waiting(4.0).await;
    cut.shutdown(std::net::Shutdown::Both).unwrap();
    held.until_cancelled(4.0).await;
    assert_eq!(held.rows().await, [1, 100]);
    for request in waiting {
        assert!(request.await.unwrap().is_err());
    }
}

#[tokio::test]
async fn a_client_that_goes_with_half_a_body_is_nobodys_error() {
    let held = Held::start("leave-body").await;
    let whole = infer_bytes(held.name, 2, "");
    let mut client = Raw::connect(held.batcher.front).await;
    client.write(&whole[..whole.len() - 3]).await;
    drop(client);
    until("only the connection of row 1 is left, which is at the model", async || {
        let count = crate::client::get(held.batcher.admin, "/metrics").await.text();
        let count = count
            .lines()
            .find_map(|line| line.strip_prefix("sluice_batcher_connections "))
            .map(str::to_owned);
        count.as_deref() == Some("1")
    })
    .await;
    assert_eq!(held.rows().await, [1, 100]);
}
