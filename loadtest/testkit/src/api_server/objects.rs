//! The objects of the server, their history, and what requests do to them.

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Value, json};

use super::Write;
use super::path::ObjectPath;
use super::responses::{Response, document, failure};

/// One change of an object.
struct Change {
    version: u64,
    collection: String,
    /// `ADDED`, `MODIFIED` or `DELETED`.
    kind: &'static str,
    object: Value,
}

#[derive(Default)]
pub(super) struct Objects {
    version: u64,
    /// By collection, then by namespace (empty where a kind has none) and name.
    objects: BTreeMap<String, BTreeMap<(String, String), Value>>,
    /// All changes, in their order.
    history: Vec<Change>,
    /// Documents that are served as they are, by path.
    pub(super) documents: BTreeMap<String, Value>,
    /// What clients have written.
    pub(super) writes: Vec<Write>,
    /// Number of read requests, by collection.
    pub(super) reads: BTreeMap<String, u64>,
    /// Collections that nobody may read.
    pub(super) forbidden: Vec<String>,
    /// Changes to what clients send, by collection.
    pub(super) admissions: BTreeMap<String, fn(&mut Value)>,
    /// Number of replacements still to be made to conflict.
    pub(super) conflicts: usize,
}

impl Objects {
    /// Returns the resource version of the last change.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn get(&self, collection: &str, namespace: &str, name: &str) -> Option<&Value> {
        self.objects.get(collection)?.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// Returns the objects of a collection, of one namespace or of all.
    pub(super) fn list(&self, collection: &str, namespace: Option<&str>) -> Vec<Value> {
        let all = self.objects.get(collection).into_iter().flatten();
        let within = all.filter(|((own, _), _)| namespace.is_none_or(|namespace| own == namespace));
        within.map(|(_, object)| object.clone()).collect()
    }

    pub(super) fn put(&mut self, collection: &str, mut object: Value) {
        let (namespace, name) = key(&object);
        let exists = self.get(collection, &namespace, &name).is_some();
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("{name}-{}", collection.len()));
        }
        self.store(collection, if exists { "MODIFIED" } else { "ADDED" }, object);
    }

    pub(super) fn delete(&mut self, collection: &str, namespace: &str, name: &str) -> Option<Value> {
        let all = self.objects.get_mut(collection)?;
        let object = all.remove(&(namespace.to_owned(), name.to_owned()))?;
        self.note(collection, "DELETED", object.clone());
        Some(object)
    }

    pub(super) fn clear(&mut self, collection: &str) {
        for object in self.objects.remove(collection).into_iter().flat_map(BTreeMap::into_values) {
            self.note(collection, "DELETED", object);
        }
    }

    /// Returns the first change of a collection after a version: its version, its kind, the object.
    pub(super) fn change_after(
        &self,
        version: u64,
        collection: &str,
        namespace: Option<&str>,
    ) -> Option<(u64, &'static str, Value)> {
        let is_next = |change: &&Change| {
            change.version > version
                && change.collection == collection
                && namespace.is_none_or(|namespace| change.object["metadata"]["namespace"] == namespace)
        };
        let change = self.history.iter().find(is_next)?;
        Some((change.version, change.kind, change.object.clone()))
    }

    /// Stores an object under the next version, and returns it with that version.
    fn store(&mut self, collection: &str, kind: &'static str, object: Value) -> Value {
        let object = self.note(collection, kind, object);
        self.objects.entry(collection.to_owned()).or_default().insert(key(&object), object.clone());
        object
    }

    /// Adds a change to the history, and returns the object with the change's version.
    fn note(&mut self, collection: &str, kind: &'static str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let change =
            Change { version: self.version, collection: collection.to_owned(), kind, object: object.clone() };
        self.history.push(change);
        object
    }

    fn admit(&self, collection: &str, object: &mut Value) {
        if let Some(admit) = self.admissions.get(collection) {
            admit(object);
        }
    }

    /// Executes a request that is no watch.
    pub(super) fn handle(
        &mut self,
        method: &Method,
        place: &ObjectPath,
        body: Value,
        is_dry_run: bool,
    ) -> Response {
        let Some(name) = &place.name else {
            return match *method {
                Method::POST => self.create(place, body, is_dry_run),
                _ => {
                    let items = self.list(&place.collection, place.namespace.as_deref());
                    let version = self.version.to_string();
                    document(200, &json!({"metadata": {"resourceVersion": version}, "items": items}))
                }
            };
        };
        let (collection, namespace) = (&place.collection, place.namespace.clone().unwrap_or_default());
        if self.conflicts > 0 && *method == Method::PUT {
            self.conflicts -= 1;
            if let Some(current) = self.get(collection, &namespace, name).cloned() {
                self.store(collection, "MODIFIED", current);
            }
        }
        let Some(mut object) = self.get(collection, &namespace, name).cloned() else {
            return failure(404, "NotFound", &format!("{} \"{name}\" not found", place.plural()), name);
        };
        let given = &body["metadata"]["resourceVersion"];
        // Only a replacement has to say which version it replaces.
        let is_checked = *method == Method::PUT || (*method != Method::GET && !given.is_null());
        if is_checked && *given != object["metadata"]["resourceVersion"] {
            return failure(409, "Conflict", "the object has been modified", name);
        }
        match (method, place.subresource.as_deref()) {
            (&Method::GET, None) => document(200, &object),
            (&Method::GET, Some("scale")) => document(200, &scale(&object)),
            (&Method::PATCH, Some("scale")) => {
                object["spec"]["replicas"] = body["spec"]["replicas"].clone();
                document(200, &scale(&self.store(collection, "MODIFIED", object)))
            }
            (&Method::PATCH, _) => {
                json_patch::merge(&mut object, &body);
                document(200, &self.store(collection, "MODIFIED", object))
            }
            (&Method::PUT, None) => {
                let mut body = body;
                self.admit(collection, &mut body);
                document(200, &self.store(collection, "MODIFIED", body))
            }
            (&Method::DELETE, None) => {
                self.delete(collection, &namespace, name);
                document(200, &object)
            }
            _ => failure(405, "MethodNotAllowed", "not allowed", name),
        }
    }

    fn create(&mut self, place: &ObjectPath, mut object: Value, is_dry_run: bool) -> Response {
        if let Some(namespace) = &place.namespace {
            object["metadata"]["namespace"] = json!(namespace);
        }
        self.admit(&place.collection, &mut object);
        if is_dry_run {
            return document(201, &object);
        }
        if object["metadata"]["name"].is_null() {
            let prefix = object["metadata"]["generateName"].as_str().unwrap_or_default();
            object["metadata"]["name"] = json!(format!("{prefix}{}", self.version + 1));
        }
        let (namespace, name) = key(&object);
        if self.get(&place.collection, &namespace, &name).is_some() {
            return failure(409, "AlreadyExists", "exists already", &name);
        }
        document(201, &self.store(&place.collection, "ADDED", object))
    }
}

fn key(object: &Value) -> (String, String) {
    let text = |part: &str| object["metadata"][part].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

/// Returns the `Scale` of an object. Its selector is `status.hpaPodSelector` where a kind has that, else the labels of
/// `spec.selector`.
fn scale(object: &Value) -> Value {
    let selector = object["status"]["hpaPodSelector"].as_str().map(str::to_owned).unwrap_or_else(|| {
        let labels = object["spec"]["selector"]["matchLabels"].as_object().unwrap();
        let terms = labels.iter().map(|(label, value)| format!("{label}={}", value.as_str().unwrap()));
        terms.collect::<Vec<_>>().join(",")
    });
    json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": object["metadata"],
        "spec": {"replicas": object["spec"]["replicas"]},
        "status": {"replicas": 0, "selector": selector},
    })
}
