//! Reads and writes scale subresources.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::api::{Patch, PatchParams};
use kube::core::discovery::Scope;
use kube::core::{DynamicObject, Selector};
use kube::discovery::ApiResource;
use kube::{Api, Client};
use serde_json::json;

use super::template::{self, Template};
use super::workload::{REVISION, Workload};
use super::{kinds, selector};
use crate::platform::{PlatformError, ScaleTarget, Target};

/// Time limit of a call; the next tick asks again.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// A target's scale as it is.
#[derive(Debug, Clone)]
pub(super) struct Scale {
    /// Replicas asked for.
    pub replicas: u32,
    /// Selector of its pods.
    pub selector: Selector,
    /// Resource version of the target; it changes with any change of the target.
    pub version: String,
    /// UID of the target.
    pub uid: Option<String>,
}

/// Result of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Set {
    /// The scale was changed.
    Done,
    /// The target was changed by others in between.
    Conflict,
}

/// Client of scale subresources.
pub(super) struct Scales {
    client: Client,
    /// Kinds that were looked up, by API version and name.
    kinds: Mutex<HashMap<(String, String), ApiResource>>,
}

impl Scales {
    /// Creates one that uses the client's API server.
    pub(super) fn new(client: Client) -> Self {
        Self { client, kinds: Mutex::default() }
    }

    /// Reads the scale of a target.
    pub(super) async fn get(&self, target: &ScaleTarget) -> Result<Scale, PlatformError> {
        let api = self.api(target).await?;
        let scale = match answer("GET", target, api.get_scale(&target.at.name)).await {
            Err(PlatformError::UnknownTarget(target_name)) => {
                // Its kind may be another one by now, or the subresource may be gone.
                self.forget(target);
                return Err(PlatformError::UnknownTarget(target_name));
            }
            other => other?,
        };
        let spec = scale.spec.unwrap_or_default();
        let text = scale.status.and_then(|status| status.selector).unwrap_or_default();
        let selector = selector::parse(&text).map_err(|problem| {
            PlatformError::Unscalable(format!("{target}: its scale's selector: {problem}"))
        })?;
        if selector.selects_all() {
            return Err(PlatformError::Unscalable(format!(
                "{target}: its scale subresource has no selector, so its pods cannot be told from others"
            )));
        }
        Ok(Scale {
            replicas: u32::try_from(spec.replicas.unwrap_or(0)).unwrap_or(0),
            selector,
            version: scale.metadata.resource_version.unwrap_or_default(),
            uid: scale.metadata.uid,
        })
    }

    /// Sets the replicas, unless the target has another version than `version`.
    pub(super) async fn set(
        &self,
        target: &ScaleTarget,
        version: &str,
        replicas: u32,
    ) -> Result<Set, PlatformError> {
        let api = self.api(target).await?;
        let patch =
            Patch::Merge(json!({"metadata": {"resourceVersion": version}, "spec": {"replicas": replicas}}));
        let asked = async {
            match api.patch_scale(&target.at.name, &PatchParams::default(), &patch).await {
                Ok(_) => Ok(Set::Done),
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(Set::Conflict),
                Err(error) => Err(error),
            }
        };
        answer("PATCH", target, asked).await
    }

    /// Reads the pod template of a replica from the target, or from the object that it refers to, and what else the target
    /// states about its pods.
    pub(super) async fn template(&self, target: &ScaleTarget) -> Result<(Template, Workload), PlatformError> {
        match self.template_of(target).await? {
            (Template::Elsewhere(api_version, kind, name), workload) => {
                let at = Target { namespace: target.at.namespace.clone(), name };
                let (found, _) = self.template_of(&ScaleTarget { at, api_version, kind }).await?;
                Ok((found, workload))
            }
            found => Ok(found),
        }
    }

    async fn template_of(&self, target: &ScaleTarget) -> Result<(Template, Workload), PlatformError> {
        let api = self.api(target).await?;
        let read = async {
            match api.get(&target.at.name).await {
                Ok(object) => Ok(Some(object)),
                // The installed roles allow the usual kinds; for others an existing pod must show it.
                Err(kube::Error::Api(status)) if status.code == 403 => Ok(None),
                Err(error) => Err(error),
            }
        };
        let Some(object) = answer("GET", target, read).await? else {
            return Ok((Template::Forbidden, Workload::default()));
        };
        let workload = Workload::of(&target.api_version, &target.kind, &object);
        template::read(&target.api_version, &target.kind, &object.data)
            .map(|found| (found, workload))
            .map_err(|problem| PlatformError::Unscalable(format!("{target}: {problem}")))
    }

    /// Returns the revision of a Deployment's ReplicaSet; `None` where it is gone, has none, or may not be read.
    pub(super) async fn revision(
        &self,
        target: &ScaleTarget,
        replica_set: &str,
    ) -> Result<Option<String>, PlatformError> {
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &target.at.namespace);
        let read = async {
            match api.get_metadata_opt(replica_set).await {
                Err(kube::Error::Api(status)) if status.code == 403 => Ok(None),
                other => other,
            }
        };
        let found = answer("GET of a ReplicaSet", target, read).await?;
        Ok(found.and_then(|set| set.metadata.annotations?.remove(REVISION)))
    }

    fn forget(&self, target: &ScaleTarget) {
        let key = (target.api_version.clone(), target.kind.clone());
        self.kinds.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&key);
    }

    /// Returns the API of the target's kind, which is looked up once.
    async fn api(&self, target: &ScaleTarget) -> Result<Api<DynamicObject>, PlatformError> {
        let key = (target.api_version.clone(), target.kind.clone());
        let known = self.kinds.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(&key).cloned();
        let kind = match known {
            Some(kind) => kind,
            None => {
                let kind = self.look_up(target).await?;
                let mut kinds = self.kinds.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                kinds.insert(key, kind.clone());
                kind
            }
        };
        Ok(Api::namespaced_with(self.client.clone(), &target.at.namespace, &kind))
    }

    async fn look_up(&self, target: &ScaleTarget) -> Result<ApiResource, PlatformError> {
        let ScaleTarget { api_version, kind, .. } = target;
        let found = kinds::find(&self.client, api_version, kind);
        let unscalable = |problem: &str| {
            Err(PlatformError::Unscalable(format!(
                "spec.scaleTargetRef: {api_version} {kind} {problem}; name a kind such as apps/v1 Deployment"
            )))
        };
        let Some((resource, capabilities)) = answer("discovery", target, found).await? else {
            return unscalable("is not known to this cluster");
        };
        if capabilities.scope != Scope::Namespaced {
            return unscalable("does not belong to a namespace");
        }
        let mut subresources = capabilities.subresources.iter();
        // Its plural is `deployments/scale`, or `scale` alone.
        if !subresources.any(|(one, _)| one.plural.rsplit('/').next() == Some("scale")) {
            return unscalable("has no scale subresource");
        }
        Ok(resource)
    }
}

/// Waits for a call with a time limit, and converts its error.
pub(super) async fn answer<T>(
    what: &str,
    target: &ScaleTarget,
    asked: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, PlatformError> {
    match tokio::time::timeout(CALL_TIMEOUT, asked).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => {
            Err(PlatformError::UnknownTarget(target.to_string()))
        }
        Ok(Err(error)) => Err(PlatformError::Unavailable(format!("{what} of {target}: {error}"))),
        Err(_) => Err(PlatformError::Unavailable(format!(
            "{what} of {target}: the API server did not answer within {} s",
            CALL_TIMEOUT.as_secs()
        ))),
    }
}
