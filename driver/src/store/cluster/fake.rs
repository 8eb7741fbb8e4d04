//! API server in memory for tests, with what a node's driver needs of one. kube's own client talks to it, so the
//! tests cover what is really sent.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

type ApiResponse = Response<UnsyncBoxBody<Bytes, Infallible>>;

const SLICES: &str = "/apis/resource.k8s.io/v1/resourceslices";

/// Behaviour of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behavior {
    Well,
    /// Responds 500 with a reason.
    Failing,
    /// Responds 404 in plain text, as a server that does not serve the kind.
    Foreign,
    /// Does not respond.
    Silent,
}

struct State {
    behavior: Behavior,
    minor: String,
    keeps_counters: bool,
    node_uid: Option<String>,
    slices: BTreeMap<String, Value>,
    claims: BTreeMap<String, Value>,
    version: u64,
    events: Vec<(u64, Value)>,
    watchers: Vec<mpsc::UnboundedSender<Value>>,
    /// Number of replacements before each of which another program changes the slice.
    rivals: usize,
}

/// Server. Cheap to clone.
#[derive(Clone)]
pub(super) struct FakeApiServer(Arc<Mutex<State>>);

impl FakeApiServer {
    /// Creates a server of Kubernetes 1.37 with one node.
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            behavior: Behavior::Well,
            minor: "37".to_owned(),
            keeps_counters: true,
            node_uid: Some("node-uid-1".to_owned()),
            slices: BTreeMap::new(),
            claims: BTreeMap::new(),
            version: 1,
            events: Vec::new(),
            watchers: Vec::new(),
            rivals: 0,
        })))
    }

    /// Returns kube's client of the server.
    pub(super) fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.respond(request).await) }
        });
        Client::new(service, "default")
    }

    fn state<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap())
    }

    pub(super) fn set_behavior(&self, behavior: Behavior) {
        self.state(|state| state.behavior = behavior);
    }

    pub(super) fn set_minor(&self, minor: &str) {
        self.state(|state| state.minor = minor.to_owned());
    }

    pub(super) fn set_keeps_counters(&self, keeps: bool) {
        self.state(|state| state.keeps_counters = keeps);
    }

    pub(super) fn set_node_uid(&self, uid: Option<&str>) {
        self.state(|state| state.node_uid = uid.map(str::to_owned));
    }

    pub(super) fn set_rivals(&self, rivals: usize) {
        self.state(|state| state.rivals = rivals);
    }

    pub(super) fn put_claim(&self, name: &str, claim: Value) {
        self.state(|state| state.claims.insert(name.to_owned(), claim));
    }

    pub(super) fn slices(&self) -> Vec<Value> {
        self.state(|state| state.slices.values().cloned().collect())
    }

    /// Deletes all slices, as a kubelet does when it starts.
    pub(super) fn wipe(&self) {
        self.state(|state| {
            for (_, slice) in std::mem::take(&mut state.slices) {
                state.record("DELETED", slice);
            }
        });
    }

    async fn respond(&self, request: Request<Body>) -> ApiResponse {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let behavior = self.state(|state| state.behavior);
        if behavior == Behavior::Silent {
            std::future::pending::<()>().await;
        }
        let path = parts.uri.path();
        let query = parts.uri.query().unwrap_or_default();
        self.state(|state| match (behavior, parts.method.as_str()) {
            (Behavior::Failing, _) => failure(500, "InternalError", "etcd is away", ""),
            (Behavior::Foreign, _) => text(404, "404 page not found"),
            (_, "GET") if query.contains("watch=true") => state.watch(query),
            _ => state.call(&parts.method, path, query, &body),
        })
    }
}

impl State {
    fn call(&mut self, method: &Method, path: &str, query: &str, body: &[u8]) -> ApiResponse {
        let name = path.rsplit('/').next().unwrap_or_default();
        let sent = || -> Value { serde_json::from_slice(body).unwrap() };
        match method.as_str() {
            "GET" if path == "/version" => {
                object(200, &json!({"major": "1", "minor": self.minor, "gitVersion": "v1"}))
            }
            "GET" if path.starts_with("/api/v1/nodes/") => match &self.node_uid {
                Some(uid) => object(200, &json!({"metadata": {"name": name, "uid": uid}})),
                None => absent("nodes", name),
            },
            "GET" if path.contains("/resourceclaims/") => match self.claims.get(name) {
                Some(claim) => object(200, claim),
                None => absent("resourceclaims", name),
            },
            "GET" if path == SLICES => {
                let items: Vec<&Value> = self.slices.values().collect();
                let version = self.version.to_string();
                object(200, &json!({"metadata": {"resourceVersion": version}, "items": items}))
            }
            "GET" => match self.slices.get(name) {
                Some(slice) => object(200, slice),
                None => absent("resourceslices", name),
            },
            "POST" => self.create(sent(), query),
            "PUT" => self.replace(name, sent()),
            "DELETE" => match self.slices.remove(name) {
                Some(slice) => {
                    self.record("DELETED", slice.clone());
                    object(200, &slice)
                }
                None => absent("resourceslices", name),
            },
            _ => failure(405, "MethodNotAllowed", path, ""),
        }
    }

    fn create(&mut self, mut slice: Value, query: &str) -> ApiResponse {
        self.admit(&mut slice);
        if query.contains("dryRun=All") {
            return object(201, &slice);
        }
        let name = slice["metadata"]["name"].as_str().unwrap().to_owned();
        if self.slices.contains_key(&name) {
            return failure(409, "AlreadyExists", "exists already", &name);
        }
        self.store(&name, "ADDED", slice)
    }

    fn replace(&mut self, name: &str, mut slice: Value) -> ApiResponse {
        if self.rivals > 0 {
            self.rivals -= 1;
            if let Some(current) = self.slices.get(name).cloned() {
                self.store(name, "MODIFIED", current);
            }
        }
        let Some(current) = self.slices.get(name) else { return absent("resourceslices", name) };
        if slice["metadata"]["resourceVersion"] != current["metadata"]["resourceVersion"] {
            return failure(409, "Conflict", "the object has been modified", name);
        }
        self.admit(&mut slice);
        self.store(name, "MODIFIED", slice)
    }

    /// Drops the fields of features that are off, as a server does.
    fn admit(&self, slice: &mut Value) {
        if self.keeps_counters {
            return;
        }
        let spec = slice["spec"].as_object_mut().unwrap();
        spec.remove("sharedCounters");
        for device in spec.get_mut("devices").and_then(Value::as_array_mut).into_iter().flatten() {
            device.as_object_mut().unwrap().remove("consumesCounters");
        }
    }

    fn store(&mut self, name: &str, event: &str, mut slice: Value) -> ApiResponse {
        slice["metadata"]["resourceVersion"] = json!((self.version + 1).to_string());
        self.slices.insert(name.to_owned(), slice.clone());
        self.record(event, slice.clone());
        object(200, &slice)
    }

    fn record(&mut self, event: &str, mut slice: Value) {
        self.version += 1;
        slice["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let event = json!({"type": event, "object": slice});
        self.events.push((self.version, event.clone()));
        self.watchers.retain(|watcher| watcher.send(event.clone()).is_ok());
    }

    fn watch(&mut self, query: &str) -> ApiResponse {
        let since = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion="));
        let since: u64 = since.and_then(|version| version.parse().ok()).unwrap_or(0);
        let (sender, receiver) = mpsc::unbounded_channel();
        for (_, event) in self.events.iter().filter(|(version, _)| *version > since) {
            sender.send(event.clone()).unwrap();
        }
        self.watchers.push(sender);
        let frames = UnboundedReceiverStream::new(receiver)
            .map(|event| Ok(hyper::body::Frame::data(Bytes::from(format!("{event}\n")))));
        Response::new(StreamBody::new(frames).boxed_unsync())
    }
}

fn object(code: u16, value: &Value) -> ApiResponse {
    text(code, &value.to_string())
}

fn text(code: u16, body: &str) -> ApiResponse {
    let body = Full::new(Bytes::from(body.to_owned())).boxed_unsync();
    Response::builder().status(code).body(body).unwrap()
}

fn absent(kind: &str, name: &str) -> ApiResponse {
    failure(404, "NotFound", &format!("{kind} \"{name}\" not found"), name)
}

fn failure(code: u16, reason: &str, message: &str, name: &str) -> ApiResponse {
    let details = json!({"name": name});
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message,
        "reason": reason, "code": code, "details": details});
    object(code, &status)
}
