//! gRPC calls that pass through: calls that stall do not stop others.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use sluice_batcher::with_settings;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::grpc_framed;
use crate::model::{Behaviour, Model};
use crate::start::{Batcher, PATIENCE, settings, sidecar, until};

/// More than fit into any window that calls could share.
const CALLS: usize = 40;

/// A call whose answer's body is not read.
async fn call<B>(batcher: &Batcher, path: &str, body: B) -> Response<Incoming>
where
    B: hyper::body::Body<Data = Bytes, Error = std::convert::Infallible> + Send + Unpin + 'static,
{
    let stream = TcpStream::connect(batcher.front).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let uri = format!("http://{}{path}", batcher.front);
    let request = Request::post(uri).header("content-type", "application/grpc").body(body).unwrap();
    timeout(PATIENCE, sender.send_request(request)).await.expect("a call begins").unwrap()
}

async fn others_are_answered(batcher: &Batcher) {
    for _ in 0..3 {
        let call = grpc_framed(batcher.front, "/echo", b"\0\0\0\0\x02hi".to_vec(), &[]);
        let got = timeout(PATIENCE, call).await.expect("others are answered");
        assert_eq!(&got.body[..], b"\0\0\0\0\x02hi");
    }
}

#[tokio::test]
async fn clients_that_stop_reading_stop_nobody_else_and_are_let_go() {
    let name = "stalled-down";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let mut stalled = Vec::new();
    for _ in 0..CALLS {
        stalled.push(call(&batcher, "/flood", Full::new(Bytes::new())).await);
    }
    others_are_answered(&batcher).await;
    // As soon as they may take nothing for so short a time only, they are let go.
    let given_up = async || {
        batcher.metric("sluice_batcher_answers_given_up_total", "reason=\"answer_timeout\"").await as usize
    };
    let before = given_up().await;
    let live = with_settings!((*batcher.settings.now()).clone(), timeouts.answer_timeout_ms = 50);
    sluice_batcher::settings::take_over(&batcher.settings, live).unwrap();
    until("all are let go", async || given_up().await >= before + CALLS).await;
    for mut response in stalled {
        while let Some(frame) = response.body_mut().frame().await {
            if frame.is_err() {
                break;
            }
        }
    }
    others_are_answered(&batcher).await;
}

#[tokio::test]
async fn a_model_server_that_stops_reading_stops_nobody_else() {
    let name = "stalled-up";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let mut stalled = Vec::new();
    for _ in 0..CALLS {
        let piece = Bytes::from(vec![b'x'; 16 << 10]);
        let pieces = futures::stream::repeat_with(move || Ok(Frame::data(piece.clone())));
        stalled.push(call(&batcher, "/sink", StreamBody::new(pieces)).await);
    }
    others_are_answered(&batcher).await;
}
