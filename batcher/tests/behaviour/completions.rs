//! An OpenAI-like completions server for tests: each of its streams gives as many tokens as it is allowed, and the
//! server journals its requests.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Tokens of an answer.
pub const TOKENS: usize = 3;

pub struct Completions {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

struct Shared {
    /// Tokens that each stream may give.
    let_go: watch::Sender<usize>,
    bodies: Mutex<Vec<Bytes>>,
    /// Answers that are under way.
    open: AtomicUsize,
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// An answer under way; dropped with it.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Completions {
    /// Starts the server; streams may give `let_go` tokens at first.
    pub async fn start(let_go: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            let_go: watch::Sender::new(let_go),
            bodies: Mutex::default(),
            open: AtomicUsize::new(0),
        });
        let stop = CancellationToken::new();
        tokio::spawn(serve(listener, Arc::clone(&shared), stop.clone()));
        Self { address, shared, stop }
    }

    pub fn let_go(&self, tokens: usize) {
        self.shared.let_go.send_replace(tokens);
    }

    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    pub fn bodies(&self) -> Vec<Bytes> {
        self.shared.bodies.lock().unwrap().clone()
    }

    /// As by SIGKILL.
    pub fn kill(&self) {
        self.stop.cancel();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted.unwrap(),
            () = stop.cancelled() => return,
        };
        let (shared, stop) = (Arc::clone(&shared), stop.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(answer(shared, request).await) }
            });
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let connection = server.serve_connection(TokioIo::new(accepted.0), service);
            tokio::select! {
                _ = connection => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    if path == "/v2/health/ready" {
        return document(200, &json!({"ready": true}));
    }
    // It has any model but those whose names say that they are invented.
    if let Some(model) = path.strip_prefix("/v1/models/") {
        let status = if model.starts_with("invented") { 404 } else { 200 };
        return document(status, &json!({"id": model, "object": "model"}));
    }
    if !path.ends_with("/completions") && !path.ends_with("/generate_stream") {
        return document(404, &json!({"error": "nothing here"}));
    }
    shared.bodies.lock().unwrap().push(body.clone());
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    shared.open.fetch_add(1, Ordering::SeqCst);
    let open = Open(Arc::clone(&shared));
    let mut let_go = shared.let_go.subscribe();
    let usage = json!({"prompt_tokens": 5, "completion_tokens": TOKENS});
    if asked["stream"] != true && !path.ends_with("_stream") {
        let _ = let_go.wait_for(|tokens| *tokens >= TOKENS).await;
        return document(200, &json!({"choices": [{"text": "abc"}], "usage": usage}));
    }
    let stream = futures::stream::unfold((0, let_go, open), move |(given, mut let_go, open)| {
        let usage = usage.clone();
        async move {
            let event = if given < TOKENS {
                let _ = let_go.wait_for(|tokens| *tokens > given).await;
                format!("data: {{\"choices\":[{{\"text\":\"{given}\"}}]}}\n\n")
            } else if given == TOKENS {
                format!("data: {}\n\ndata: [DONE]\n\n", json!({"choices": [], "usage": usage}))
            } else {
                return None;
            };
            Some((Ok(Frame::data(Bytes::from(event))), (given + 1, let_go, open)))
        }
    });
    let mut response = Response::new(StreamBody::new(stream).boxed_unsync());
    response.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
    response
}

fn document(status: u16, document: &Value) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(document.to_string())).boxed_unsync());
    *response.status_mut() = status.try_into().unwrap();
    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
    response
}
