//! A target that can lie, refuse, stall and vanish: what the generator must see through.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sluice_loadtest::model::batch::Limits;
use sluice_loadtest::model::rest_format;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// What the stub does with a request.
#[derive(Clone, Copy)]
pub(crate) enum Reply {
    /// Answers as the reference model does.
    Right,
    /// Answers with another row's numbers.
    WrongNumbers,
    /// Answers as if another request had been asked.
    WrongRequest,
    /// Answers with this status.
    Status(u16),
    /// Answers rightly once so many requests have arrived.
    OnceArrived(usize),
    /// Never answers.
    Never,
    /// Ends the connection in the middle of the answer.
    CutOff,
}

/// Starts a stub; `reply` says what it does with the n-th request, from 0.
pub(crate) async fn start(reply: impl Fn(usize) -> Reply + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let reply = Arc::new(reply);
    let count = Arc::new(AtomicUsize::new(0));
    let arrived = Arc::new(watch::channel(0).0);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (reply, count, arrived) = (Arc::clone(&reply), Arc::clone(&count), Arc::clone(&arrived));
            let service = service_fn(move |request| {
                let number = count.fetch_add(1, Ordering::SeqCst);
                arrived.send_modify(|arrived| *arrived += 1);
                answer(reply(number), request, arrived.subscribe())
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

async fn answer(
    reply: Reply,
    request: Request<Incoming>,
    mut arrived: watch::Receiver<usize>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let limits = Limits { max_batch_rows: 64, poison_id: None };
    let mut call = rest_format::decode(&body, None, &limits).unwrap();
    let mut cut_off = false;
    match reply {
        Reply::Right => {}
        Reply::WrongNumbers => call.batch.x[3] += 1.0,
        Reply::WrongRequest => call.request_id = Some("r999999".into()),
        Reply::Status(status) => {
            let response = Response::builder().status(status).body(Full::default());
            return Ok(response.unwrap());
        }
        Reply::OnceArrived(number) => {
            arrived.wait_for(|arrived| *arrived >= number).await.unwrap();
        }
        Reply::Never => std::future::pending().await,
        Reply::CutOff => cut_off = true,
    }
    let body = rest_format::encode(&call, "reference").body;
    let mut response = Response::new(Full::new(body.clone()));
    if cut_off {
        // More is promised than comes: hyper closes the connection.
        response.headers_mut().insert("content-length", (body.len() + 10).into());
    }
    Ok(response)
}
