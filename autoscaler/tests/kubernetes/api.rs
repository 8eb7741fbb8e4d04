//! An API server in memory, simulated: objects by their paths, watches, merge patches, scale and status
//! subresources, conflicts. It knows no kinds but those that discovery tells.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// What was written: method, path, body.
pub(crate) type Write = (String, String, Value);

#[derive(Clone)]
pub(crate) struct Api {
    state: Arc<Mutex<State>>,
    version: Arc<watch::Sender<u64>>,
    /// While set, every request fails.
    pub(crate) is_away: Arc<AtomicBool>,
}

#[derive(Default)]
struct State {
    version: u64,
    /// By the path of the collection without its namespace, then by namespace and name.
    objects: BTreeMap<String, BTreeMap<(String, String), Value>>,
    /// Version, collection, type, object.
    history: Vec<(u64, String, &'static str, Value)>,
    writes: Vec<Write>,
    /// How often a Lease was asked for.
    lease_looks: u64,
    /// Collections that may not be read.
    forbidden: Vec<String>,
}

/// A path's parts: `/apis/apps/v1/namespaces/ns/deployments/bert/scale`.
struct Place {
    collection: String,
    namespace: Option<String>,
    name: Option<String>,
    subresource: Option<String>,
}

impl Place {
    fn of(path: &str) -> Self {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let head = if parts[0] == "api" { 2 } else { 3 };
        let (namespace, rest) = match &parts[head..] {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some((*namespace).to_owned()), rest),
            rest => (None, rest),
        };
        let part = |index: usize| rest.get(index).map(|part| (*part).to_owned());
        let plural = part(0).unwrap_or_default();
        Self {
            collection: format!("{}/{plural}", parts[..head].join("/")),
            namespace,
            name: part(1),
            subresource: part(2),
        }
    }
}

impl Api {
    pub(crate) fn new() -> Self {
        let version = Arc::new(watch::Sender::new(0));
        Self { state: Arc::default(), version, is_away: Arc::default() }
    }

    /// The same server, as it is seen by a process whose connection can be cut alone.
    pub(crate) fn seen_alone(&self) -> Self {
        Self { is_away: Arc::default(), ..self.clone() }
    }

    pub(crate) fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        });
        Client::new(service, "default")
    }

    /// Creates or replaces an object: `apis/apps/v1/deployments`.
    pub(crate) fn put(&self, collection: &str, mut object: Value) {
        let mut state = self.state.lock().unwrap();
        let key = key(&object);
        let exists = state.objects.get(collection).is_some_and(|all| all.contains_key(&key));
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("{}-{}", key.1, collection.len()));
        }
        state.store(collection, if exists { "MODIFIED" } else { "ADDED" }, object);
        self.version.send_replace(state.version);
    }

    pub(crate) fn delete(&self, collection: &str, namespace: &str, name: &str) {
        let mut state = self.state.lock().unwrap();
        let all = state.objects.get_mut(collection).unwrap();
        let object = all.remove(&(namespace.to_owned(), name.to_owned())).unwrap();
        state.version += 1;
        let entry = (state.version, collection.to_owned(), "DELETED", object);
        state.history.push(entry);
        self.version.send_replace(state.version);
    }

    pub(crate) fn get(&self, collection: &str, namespace: &str, name: &str) -> Option<Value> {
        let state = self.state.lock().unwrap();
        state.objects.get(collection)?.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// As if no role allowed to read these objects; their subresources may be.
    pub(crate) fn forbid(&self, collection: &str) {
        self.state.lock().unwrap().forbidden.push(collection.to_owned());
    }

    /// What clients wrote since the last call.
    pub(crate) fn writes(&self) -> Vec<Write> {
        std::mem::take(&mut self.state.lock().unwrap().writes)
    }

    /// How often clients have looked at a Lease.
    pub(crate) fn lease_looks(&self) -> u64 {
        self.state.lock().unwrap().lease_looks
    }

    async fn answer(&self, request: Request<Body>) -> Answer {
        if self.is_away.load(Ordering::SeqCst) {
            return failure(503, "away");
        }
        let (parts, body) = request.into_parts();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let body = body.collect_bytes().await.unwrap();
        let path = parts.uri.path();
        if let Some(found) = discovery(path) {
            return answer(200, &found);
        }
        let place = Place::of(path);
        if place.subresource.is_none() && self.state.lock().unwrap().forbidden.contains(&place.collection) {
            return failure(403, "no role allows it");
        }
        if query.contains("watch=true") {
            return self.watch(&place, &query);
        }
        let body = serde_json::from_slice(&body).unwrap_or_default();
        let mut state = self.state.lock().unwrap();
        if parts.method != Method::GET {
            let write = (parts.method.to_string(), path.to_owned(), Value::clone(&body));
            state.writes.push(write);
        } else if place.collection.ends_with("/leases") {
            state.lease_looks += 1;
        }
        let answer = state.handle(&parts.method, &place, body);
        self.version.send_replace(state.version);
        answer
    }

    /// Everything after the version that is asked for, for as long as the client listens.
    fn watch(&self, place: &Place, query: &str) -> Answer {
        let from = query.split('&').find_map(|part| part.strip_prefix("resourceVersion="));
        let from: u64 = from.and_then(|from| from.parse().ok()).unwrap_or(0);
        let (state, collection) = (Arc::clone(&self.state), place.collection.clone());
        let namespace = place.namespace.clone();
        let events = futures::stream::unfold((from, self.version.subscribe()), move |(seen, mut version)| {
            let (state, collection, namespace) = (Arc::clone(&state), collection.clone(), namespace.clone());
            async move {
                loop {
                    let next = {
                        let state = state.lock().unwrap();
                        let is_next = |(at, of, _, object): &&(u64, String, &'static str, Value)| {
                            *at > seen
                                && *of == collection
                                && namespace.as_ref().is_none_or(|ns| object["metadata"]["namespace"] == **ns)
                        };
                        state.history.iter().find(is_next).cloned()
                    };
                    if let Some((at, _, kind, mut object)) = next {
                        object["metadata"]["resourceVersion"] = json!(at.to_string());
                        let line = format!("{}\n", json!({"type": kind, "object": object}));
                        return Some((Ok(Frame::data(Bytes::from(line))), (at, version)));
                    }
                    version.changed().await.ok()?;
                }
            }
        });
        Response::new(BodyExt::boxed_unsync(StreamBody::new(events.boxed())))
    }
}

impl State {
    fn store(&mut self, collection: &str, kind: &'static str, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.history.push((self.version, collection.to_owned(), kind, object.clone()));
        self.objects.entry(collection.to_owned()).or_default().insert(key(&object), object);
    }

    fn handle(&mut self, method: &Method, place: &Place, body: Value) -> Answer {
        let Some(name) = &place.name else {
            return match *method {
                Method::POST => {
                    let mut body = body;
                    body["metadata"]["namespace"] = json!(place.namespace);
                    self.store(&place.collection, "ADDED", body.clone());
                    answer(201, &body)
                }
                _ => self.list(place),
            };
        };
        let namespace = place.namespace.clone().unwrap_or_default();
        let found = self.objects.get(&place.collection).and_then(|all| all.get(&(namespace, name.clone())));
        let Some(mut object) = found.cloned() else { return failure(404, "not found") };
        let version = object["metadata"]["resourceVersion"].clone();
        let given = body["metadata"]["resourceVersion"].clone();
        if *method != Method::GET && !given.is_null() && given != version {
            return failure(409, "the object has been modified");
        }
        match (method, place.subresource.as_deref()) {
            (&Method::GET, None) => answer(200, &object),
            (&Method::GET, Some("scale")) => answer(200, &scale(&object)),
            (&Method::PATCH, Some("scale")) => {
                object["spec"]["replicas"] = body["spec"]["replicas"].clone();
                self.store(&place.collection, "MODIFIED", object.clone());
                answer(200, &scale(&object))
            }
            (&Method::PATCH, _) => {
                json_patch::merge(&mut object, &body);
                self.store(&place.collection, "MODIFIED", object.clone());
                answer(200, &object)
            }
            (&Method::PUT, None) => {
                self.store(&place.collection, "MODIFIED", body.clone());
                answer(200, &body)
            }
            _ => failure(405, "not allowed"),
        }
    }

    fn list(&self, place: &Place) -> Answer {
        let all = self.objects.get(&place.collection).into_iter().flat_map(BTreeMap::values);
        let within = |object: &&Value| {
            place.namespace.as_ref().is_none_or(|ns| object["metadata"]["namespace"] == **ns)
        };
        let items: Vec<&Value> = all.filter(within).collect();
        answer(200, &json!({"metadata": {"resourceVersion": self.version.to_string()}, "items": items}))
    }
}

fn key(object: &Value) -> (String, String) {
    let text = |part: &str| object["metadata"][part].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

fn scale(object: &Value) -> Value {
    if let Some(selector) = object["status"]["hpaPodSelector"].as_str() {
        // Where a kind says it itself.
        return scale_with(object, selector);
    }
    let labels = object["spec"]["selector"]["matchLabels"].as_object().unwrap();
    let selector: Vec<String> =
        labels.iter().map(|(label, value)| format!("{label}={}", value.as_str().unwrap())).collect();
    scale_with(object, &selector.join(","))
}

fn scale_with(object: &Value, selector: &str) -> Value {
    json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": object["metadata"],
        "spec": {"replicas": object["spec"]["replicas"]},
        "status": {"replicas": 0, "selector": selector},
    })
}

fn discovery(path: &str) -> Option<Value> {
    let resource = |name: &str, kind: &str| json!({"name": name, "singularName": "", "namespaced": true, "kind": kind, "verbs": ["get", "patch"]});
    match path {
        "/apis/apps/v1" => Some(json!({
            "groupVersion": "apps/v1",
            "resources": [
                resource("deployments", "Deployment"), resource("deployments/scale", "Scale"),
                resource("replicasets", "ReplicaSet"), resource("replicasets/scale", "Scale"),
                resource("daemonsets", "DaemonSet"),
            ],
        })),
        "/apis/argoproj.io/v1alpha1" => Some(json!({
            "groupVersion": "argoproj.io/v1alpha1",
            "resources": [resource("rollouts", "Rollout"), resource("rollouts/scale", "Scale")],
        })),
        "/apis/leaderworkerset.x-k8s.io/v1" => Some(json!({
            "groupVersion": "leaderworkerset.x-k8s.io/v1",
            "resources": [
                resource("leaderworkersets", "LeaderWorkerSet"), resource("leaderworkersets/scale", "Scale"),
            ],
        })),
        _ => None,
    }
}

fn answer(status: u16, body: &Value) -> Answer {
    let body = Full::new(Bytes::from(serde_json::to_vec(body).unwrap()));
    Response::builder().status(status).body(BodyExt::boxed_unsync(body)).unwrap()
}

fn failure(status: u16, message: &str) -> Answer {
    let reason = match status {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        _ => "ServiceUnavailable",
    };
    let body =
        json!({"kind": "Status", "status": "Failure", "code": status, "reason": reason, "message": message});
    answer(status, &body)
}
