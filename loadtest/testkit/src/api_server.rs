//! A Kubernetes API server in memory, behind kube's own client, so that tests see what programs really send.
//!
//! It keeps objects of any kind by their paths, and knows lists, watches, merge patches, conflicts, dry runs, and the
//! subresources `scale` and `status`. It validates nothing.

mod objects;
mod path;
mod responses;

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;

use objects::Objects;
use path::ObjectPath;
use responses::{Response, document, failure, text};

/// A request that changed something: method, path, body.
pub type Write = (String, String, Value);

/// How a server responds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// As it should.
    Healthy,
    /// To every request with status 503.
    Unavailable,
    /// To every request with status 500, reason `InternalError`.
    Failing,
    /// To every request with status 404 in plain text, as a server does that does not know the path.
    Foreign,
    /// Not at all: requests hang.
    Silent,
}

/// A server. Clones share everything.
#[derive(Clone)]
pub struct ApiServer {
    objects: Arc<Mutex<Objects>>,
    /// The current resource version; wakes watches.
    version: Arc<watch::Sender<u64>>,
    health: Arc<Mutex<Health>>,
}

impl Default for ApiServer {
    fn default() -> Self {
        Self::new()
    }
}

impl ApiServer {
    /// Creates a healthy server without objects.
    pub fn new() -> Self {
        Self {
            objects: Arc::default(),
            version: Arc::new(watch::Sender::new(0)),
            health: Arc::new(Mutex::new(Health::Healthy)),
        }
    }

    /// Returns the same server with a health of its own: for clients whose connection is cut alone.
    pub fn with_own_health(&self) -> Self {
        Self { health: Arc::new(Mutex::new(Health::Healthy)), ..self.clone() }
    }

    /// Returns a kube client of this server.
    pub fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.respond(request).await) }
        });
        Client::new(service, "default")
    }

    /// Sets how requests are responded to from now on.
    pub fn set_health(&self, health: Health) {
        *self.health.lock().unwrap() = health;
    }

    /// Serves a fixed document at a path, such as `/version` or the discovery of a group.
    pub fn serve(&self, path: &str, document: Value) {
        self.change(|objects| objects.documents.insert(path.to_owned(), document));
    }

    /// Creates or replaces an object in a collection such as `apis/apps/v1/deployments`. An object without a uid gets
    /// one.
    pub fn put(&self, collection: &str, object: Value) {
        self.change(|objects| objects.put(collection, object));
    }

    /// Deletes an object. The namespace is empty for kinds that have none.
    ///
    /// # Panics
    /// Where there is no such object.
    pub fn delete(&self, collection: &str, namespace: &str, name: &str) {
        self.change(|objects| objects.delete(collection, namespace, name).expect("the object exists"));
    }

    /// Deletes all objects of a collection.
    pub fn clear(&self, collection: &str) {
        self.change(|objects| objects.clear(collection));
    }

    /// Returns an object, if it exists.
    pub fn get(&self, collection: &str, namespace: &str, name: &str) -> Option<Value> {
        self.objects.lock().unwrap().get(collection, namespace, name).cloned()
    }

    /// Returns all objects of a collection, ordered by namespace and name.
    pub fn list(&self, collection: &str) -> Vec<Value> {
        self.objects.lock().unwrap().list(collection, None)
    }

    /// Rejects reading these objects, as without a role that allows it. Their subresources stay readable.
    pub fn forbid(&self, collection: &str) {
        self.change(|objects| objects.forbidden.push(collection.to_owned()));
    }

    /// Changes every object of a collection that clients create or replace, as a server drops the fields of a feature
    /// that is off.
    pub fn set_admission(&self, collection: &str, admit: fn(&mut Value)) {
        self.change(|objects| objects.admissions.insert(collection.to_owned(), admit));
    }

    /// Writes an object again just before each of the next `count` replacements by clients, so that these conflict.
    pub fn set_conflicts(&self, count: usize) {
        self.change(|objects| objects.conflicts = count);
    }

    /// Returns what clients have written since the last call.
    pub fn writes(&self) -> Vec<Write> {
        self.change(|objects| std::mem::take(&mut objects.writes))
    }

    /// Returns the number of requests that have read this collection, or an object of it.
    pub fn reads(&self, collection: &str) -> u64 {
        self.objects.lock().unwrap().reads.get(collection).copied().unwrap_or(0)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Objects) -> T) -> T {
        let mut objects = self.objects.lock().unwrap();
        let result = change(&mut objects);
        self.version.send_replace(objects.version());
        result
    }

    async fn respond(&self, request: Request<Body>) -> Response {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap();
        let health = *self.health.lock().unwrap();
        match health {
            Health::Healthy => {}
            Health::Unavailable => return failure(503, "ServiceUnavailable", "away", ""),
            Health::Failing => return failure(500, "InternalError", "etcd is away", ""),
            Health::Foreign => return text(404, "404 page not found"),
            Health::Silent => std::future::pending().await,
        }
        let path = parts.uri.path();
        if let Some(found) = self.objects.lock().unwrap().documents.get(path) {
            return document(200, found);
        }
        let place = ObjectPath::parse(path);
        let query = parts.uri.query().unwrap_or_default();
        let is_forbidden = self.objects.lock().unwrap().forbidden.contains(&place.collection);
        if is_forbidden && place.subresource.is_none() {
            return failure(403, "Forbidden", "no role allows it", "");
        }
        if query.contains("watch=true") {
            return self.watch(&place, query);
        }
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        self.change(|objects| {
            if parts.method == Method::GET {
                *objects.reads.entry(place.collection.clone()).or_default() += 1;
            } else {
                objects.writes.push((parts.method.to_string(), path.to_owned(), body.clone()));
            }
            objects.handle(&parts.method, &place, body, query.contains("dryRun=All"))
        })
    }

    /// Sends every change after the version that the query names, for as long as the client listens.
    fn watch(&self, place: &ObjectPath, query: &str) -> Response {
        let from = query.split('&').find_map(|part| part.strip_prefix("resourceVersion="));
        let from: u64 = from.and_then(|from| from.parse().ok()).unwrap_or(0);
        let (collection, namespace) = (place.collection.clone(), place.namespace.clone());
        let state = (from, self.version.subscribe(), Arc::clone(&self.objects));
        let events = futures::stream::unfold(state, move |(seen, mut version, objects)| {
            let (collection, namespace) = (collection.clone(), namespace.clone());
            async move {
                loop {
                    let next = objects.lock().unwrap().change_after(seen, &collection, namespace.as_deref());
                    if let Some((at, kind, object)) = next {
                        let line = format!("{}\n", json!({"type": kind, "object": object}));
                        return Some((Ok(Frame::data(Bytes::from(line))), (at, version, objects)));
                    }
                    version.changed().await.ok()?;
                }
            }
        });
        Response::new(BodyExt::boxed_unsync(StreamBody::new(events.boxed())))
    }
}
