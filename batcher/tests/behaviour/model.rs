//! A model server for tests: input `id` INT64 [-1,1]; outputs `id` as it came and `twice` = 2·id. It journals its
//! calls, can be held at a gate, killed and started again on its port. It speaks REST, and gRPC on the same port.

mod behaviour;
mod bodies;
mod grpc;
mod passing;
mod predict;
pub mod stateful;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use sluice_batcher::upstream::endpoint::Stream;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Notify, watch};
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

pub use behaviour::{Behaviour, Call};
use bodies::{echo, flat, json_of, read_ids, reply, wide, width};

struct Shared {
    name: String,
    behaviour: Behaviour,
    calls: Mutex<Vec<Call>>,
    /// Requests that are never answered, and the most of them at a time.
    hanging: AtomicUsize,
    most_hanging: AtomicUsize,
    /// Paths of all REST requests.
    paths: Mutex<Vec<String>>,
    at_gate: AtomicUsize,
    gate: watch::Sender<bool>,
    epoch: AtomicUsize,
    counts: stateful::Counts,
    /// Method and path of each request, in the order in which they came.
    asked: Mutex<Vec<String>>,
}

pub struct Model {
    /// Where it listens, unless it does at a path.
    pub address: SocketAddr,
    path: Option<PathBuf>,
    shared: Arc<Shared>,
    stop: Option<CancellationToken>,
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

impl Model {
    pub async fn start(name: &str, behaviour: Behaviour) -> Self {
        let mut model = Self::reserve(name, behaviour).await;
        model.restart().await;
        model
    }

    /// At a Unix socket.
    pub async fn start_at(path: &Path, name: &str, behaviour: Behaviour) -> Self {
        let mut model = Self::reserve(name, behaviour).await;
        model.path = Some(path.to_owned());
        model.restart().await;
        model
    }

    /// Its address, as settings have it.
    pub fn upstream(&self) -> String {
        match &self.path {
            Some(path) => format!("unix:{}", path.display()),
            None => self.address.to_string(),
        }
    }

    /// With a port, but not running.
    pub async fn reserve(name: &str, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shared = Shared {
            name: name.to_owned(),
            behaviour,
            calls: Mutex::default(),
            hanging: AtomicUsize::new(0),
            most_hanging: AtomicUsize::new(0),
            paths: Mutex::default(),
            at_gate: AtomicUsize::new(0),
            gate: watch::Sender::new(true),
            epoch: AtomicUsize::new(0),
            counts: stateful::Counts::default(),
            asked: Mutex::default(),
        };
        Self { address: listener.local_addr().unwrap(), path: None, shared: Arc::new(shared), stop: None }
    }

    pub fn behaviour(&self) -> &Behaviour {
        &self.shared.behaviour
    }

    /// Calls with clients' rows wait here while it is closed.
    pub fn close_gate(&self) {
        self.shared.gate.send_replace(false);
    }

    pub fn open_gate(&self) {
        self.shared.gate.send_replace(true);
    }

    pub fn at_gate(&self) -> usize {
        self.shared.at_gate.load(Ordering::SeqCst)
    }

    pub fn epoch(&self) -> usize {
        self.shared.epoch.load(Ordering::SeqCst)
    }

    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().unwrap().clone()
    }

    /// The most requests at a time that are never answered.
    pub fn most_hanging(&self) -> usize {
        self.shared.most_hanging.load(Ordering::SeqCst)
    }

    /// How many REST requests had this in their path.
    pub fn asked_for(&self, part: &str) -> usize {
        self.shared.paths.lock().unwrap().iter().filter(|path| path.contains(part)).count()
    }

    /// Calls with clients' rows.
    pub fn client_calls(&self) -> Vec<Call> {
        self.calls().into_iter().filter(|call| !call.is_warmup()).collect()
    }

    /// Steps of sequences, in the order in which they came.
    pub fn steps(&self) -> Vec<stateful::Step> {
        self.shared.counts.seen()
    }

    /// How often this was asked: method and path.
    pub fn asked(&self, what: &str) -> usize {
        self.shared.asked.lock().unwrap().iter().filter(|asked| *asked == what).count()
    }

    /// As by SIGKILL: all sockets close at once, whatever is under way.
    pub fn kill(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.cancel();
        }
    }

    async fn listen(&self) -> Listening {
        if let Some(path) = &self.path {
            // A killed server leaves its socket's file behind.
            let _ = std::fs::remove_file(path);
            return Listening::Unix(UnixListener::bind(path).unwrap());
        }
        loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => return Listening::Tcp(listener),
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    /// On the same port or path, as a new server.
    pub async fn restart(&mut self) {
        self.kill();
        let listener = self.listen().await;
        let stop = CancellationToken::new();
        self.stop = Some(stop.clone());
        let epoch = self.shared.epoch.fetch_add(1, Ordering::SeqCst) + 1;
        let shared = Arc::clone(&self.shared);
        let (grpc_only, one_answer) = (shared.behaviour.grpc_only, shared.behaviour.one_answer);
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = stop.cancelled() => return,
                };
                let (shared, stop) = (Arc::clone(&shared), stop.clone());
                tokio::spawn(async move {
                    let asked = Arc::new(Notify::new());
                    let first = Arc::clone(&asked);
                    let service = service_fn(move |request: Request<Incoming>| {
                        let (shared, first) = (Arc::clone(&shared), Arc::clone(&first));
                        async move {
                            first.notify_one();
                            // Without an answer the connection is closed.
                            if request.uri().path().ends_with("-hangs-up") {
                                return Err(std::io::Error::other("hung up"));
                            }
                            let response = shared.answer(epoch, request).await;
                            match response.extensions().get::<HungUp>() {
                                Some(HungUp) => Err(std::io::Error::other("hung up")),
                                None => Ok(response),
                            }
                        }
                    });
                    let mut server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    if grpc_only {
                        server = server.http2_only();
                    }
                    let connection = server.serve_connection(TokioIo::new(accepted), service);
                    let mut connection = std::pin::pin!(connection);
                    let last = async {
                        if one_answer { asked.notified().await } else { std::future::pending().await }
                    };
                    tokio::select! {
                        _ = connection.as_mut() => {}
                        () = stop.cancelled() => {}
                        () = last => {
                            connection.as_mut().graceful_shutdown();
                            let _ = connection.await;
                        }
                    }
                });
            }
        });
    }
}

/// Marks a response that is not sent: the connection is closed instead.
#[derive(Clone)]
struct HungUp;
/// A request that is never answered; dropped with its connection.
struct Hangs<'a>(&'a Shared);

impl<'a> Hangs<'a> {
    fn new(shared: &'a Shared) -> Self {
        let hanging = shared.hanging.fetch_add(1, Ordering::SeqCst) + 1;
        shared.most_hanging.fetch_max(hanging, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for Hangs<'_> {
    fn drop(&mut self) {
        self.0.hanging.fetch_sub(1, Ordering::SeqCst);
    }
}

enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listening {
    async fn accept(&self) -> Stream {
        match self {
            Self::Tcp(listener) => Either::Left(listener.accept().await.unwrap().0),
            Self::Unix(listener) => Either::Right(listener.accept().await.unwrap().0),
        }
    }
}

impl Shared {
    async fn answer(&self, epoch: usize, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let model = format!("/v2/models/{}", self.name);
        self.asked.lock().unwrap().push(format!("{} {path}", request.method()));
        if let Some((name, token)) = self.behaviour.token
            && request.headers().get(name).is_none_or(|given| given != token)
        {
            return reply(401, "{\"error\":\"no token, says the model server\"}");
        }
        if let Some(method) = path.strip_prefix("/inference.GRPCInferenceService/") {
            return self.answer_grpc(epoch, method, request).await;
        }
        self.paths.lock().unwrap().push(path.clone());
        if path.contains("-never-answers") {
            let _hangs = Hangs::new(self);
            return std::future::pending().await;
        }
        let has_too = !self.behaviour.too_is_gone.load(Ordering::SeqCst);
        match path.as_str() {
            path if self.behaviour.no_metadata && path == model => {
                reply(404, "no metadata, says the model server")
            }
            path if path.starts_with(&format!("{model}-too")) && !has_too => {
                reply(404, "{\"error\":\"it is gone, says the model server\"}")
            }
            "/v2/repository/index" => reply(200, &json!([{"name": self.name, "state": "READY"}]).to_string()),
            path if path == format!("{model}/versions/1/ready") => reply(200, ""),
            path if self.behaviour.v1_alone && path.starts_with("/v2") => reply(404, "no V2 here"),
            path if self.behaviour.v1_alone && path == format!("/v1/models/{}", self.name) => {
                reply(200, &json!({"name": self.name, "ready": true}).to_string())
            }
            "/v2/health/ready" => reply(200, "{\"ready\":true}"),
            "/v2" => {
                reply(200, &json!({ "name": "stub", "extensions": self.behaviour.extensions }).to_string())
            }
            "/gated" => {
                self.wait_at_gate().await;
                reply(200, "{}")
            }
            "/stream" => self.stream(),
            "/echo" => echo(request).await,
            "/duplex" | "/with-trailers" | "/hops" | "/sink" | "/flood" => {
                passing::passing(&path, request).unwrap()
            }
            path if path.starts_with("/status/") || path.starts_with("/bulk/") => {
                passing::passing(path, request).unwrap()
            }
            // One of them has metadata, but cannot be run.
            path if path == model || path == format!("{model}-broken") || path == format!("{model}-too") => {
                let shape = self.behaviour.shape;
                let tensor = |name| json!({"name": name, "datatype": "INT64", "shape": shape});
                let mut metadata = json!({"name": self.name, "versions": ["1"], "platform": "stub",
                    "inputs": [tensor("id")], "outputs": [tensor("id"), tensor("twice")]});
                if self.behaviour.v1 {
                    metadata["inputs"] = json!([]);
                }
                reply(200, &metadata.to_string())
            }
            path if path == format!("{model}/config") => {
                let (status, config) = &self.behaviour.config;
                reply(*status, config)
            }
            path if self.behaviour.v1 && path.starts_with(&format!("/v1/models/{}", self.name)) => {
                self.predict(epoch, request).await
            }
            path if path == format!("{model}/infer") => self.infer(epoch, request, false).await,
            path if path == format!("{model}-too/infer") => self.infer(epoch, request, true).await,
            path => {
                reply(404, &json!({"error": format!("nothing at {path}, says the model server")}).to_string())
            }
        }
    }

    async fn infer(&self, epoch: usize, request: Request<Incoming>, too: bool) -> Response<Body> {
        let headers = request.headers().clone();
        let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let Some((ids, form)) = read_ids(&headers, &body) else {
            return reply(400, "{\"error\":\"not a request, says the model server\"}");
        };
        let traceparent = headers.get("traceparent").map(|value| value.to_str().unwrap().to_owned());
        let authorization = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
        let is_in = |id: Option<i64>| id.is_some_and(|id| ids.contains(&id));
        let is_warmup = ids.iter().all(|&id| id == 0);
        let (breaks, stalls) = (is_in(self.behaviour.breaks), is_in(self.behaviour.stalls));
        let bad_gateway = is_in(self.behaviour.bad_gateway);
        let Some(answered) = self
            .run(Call { epoch, ids, form, too, traceparent, authorization, headers: headers.clone() })
            .await
        else {
            return reply(400, "{\"error\":\"poisoned, says the model server\"}");
        };
        if breaks {
            let mut response = reply(500, "");
            response.extensions_mut().insert(HungUp);
            return response;
        }
        if stalls {
            std::future::pending::<()>().await;
        }
        if bad_gateway {
            return reply(502, "{\"error\":\"a worker died, says the model server\"}");
        }
        if self.behaviour.wide > 0 {
            return reply(200, &wide(&self.name, &answered, self.behaviour.wide));
        }
        let step = self.step(epoch, stateful::Asked::of_json(&json_of(&headers, &body)));
        let width = width(&headers, &body).max(1);
        let tensor = |name: &str, data: Vec<i64>| json!({"name": name, "datatype": "INT64", "shape": [data.len() / width, width], "data": data});
        let twice = match step {
            Some(number) => vec![number; answered.len()],
            None => answered.iter().map(|id| id * 2).collect(),
        };
        let rows = answered.len() / width;
        let mut answer = json!({"model_name": self.name, "model_version": "1",
            "outputs": [tensor("id", answered), tensor("twice", twice)]});
        if !is_warmup
            && self.behaviour.row_bytes > 0
            && let Some(outputs) = answer["outputs"].as_array_mut()
        {
            let text = "x".repeat(self.behaviour.row_bytes);
            outputs.push(json!({"name": "text", "datatype": "BYTES", "shape": [rows, 1],
                "data": vec![text; rows]}));
        }
        reply(200, &answer.to_string())
    }

    /// Runs a batch: the ids of the answer, or `None` where it is refused.
    async fn run(&self, call: Call) -> Option<Vec<i64>> {
        let ids = call.ids.clone();
        self.work(call).await;
        if self.behaviour.poison.is_some_and(|poison| ids.contains(&poison)) {
            return None;
        }
        Some(if self.behaviour.one_row_only { ids[..1].to_vec() } else { ids })
    }

    /// Takes its time for a call.
    async fn work(&self, call: Call) {
        let (is_warmup, rows) = (call.is_warmup(), call.ids.len() as u64);
        self.calls.lock().unwrap().push(call);
        if !is_warmup {
            self.wait_at_gate().await;
        }
        let service_us = self.behaviour.alpha_us.load(Ordering::SeqCst)
            + self.behaviour.beta_us.load(Ordering::SeqCst) * rows;
        tokio::time::sleep(Duration::from_micros(service_us)).await;
    }

    /// The number of a step of a sequence.
    fn step(&self, epoch: usize, asked: stateful::Asked) -> Option<i64> {
        self.behaviour.stateful.then(|| self.counts.step(epoch, asked)).flatten()
    }

    async fn wait_at_gate(&self) {
        self.at_gate.fetch_add(1, Ordering::SeqCst);
        let mut gate = self.gate.subscribe();
        let _ = gate.wait_for(|open| *open).await;
        self.at_gate.fetch_sub(1, Ordering::SeqCst);
    }

    /// One event at once, a second one when the gate opens.
    fn stream(&self) -> Response<Body> {
        let mut gate = self.gate.subscribe();
        let (events, received) = tokio::sync::mpsc::channel::<Bytes>(1);
        tokio::spawn(async move {
            let _ = events.send(Bytes::from_static(b"data: one\n\n")).await;
            let _ = gate.wait_for(|open| *open).await;
            let _ = events.send(Bytes::from_static(b"data: two\n\n")).await;
        });
        let stream = futures::stream::unfold(received, |mut received| async move {
            let event = received.recv().await?;
            Some((Ok(Frame::data(event)), received))
        });
        let mut response = Response::new(StreamBody::new(stream).boxed_unsync());
        response.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
        response
    }
}
