//! Paths of objects and collections.

/// The parts of a path such as `/apis/apps/v1/namespaces/ns/deployments/bert/scale`.
#[derive(Debug)]
pub(super) struct ObjectPath {
    /// Path of the collection without its namespace: `apis/apps/v1/deployments`.
    pub(super) collection: String,
    pub(super) namespace: Option<String>,
    /// Name of the object; `None` for a whole collection.
    pub(super) name: Option<String>,
    pub(super) subresource: Option<String>,
}

impl ObjectPath {
    pub(super) fn parse(path: &str) -> Self {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let head = parts.len().min(if parts[0] == "api" { 2 } else { 3 });
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

    /// Returns the plural name of the kind: `deployments`.
    pub(super) fn plural(&self) -> &str {
        self.collection.rsplit('/').next().unwrap_or_default()
    }
}
