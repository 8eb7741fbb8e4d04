//! Reads and writes the status of InferenceAutoscalers in the API server. Writes nothing but `/status`.

use anyhow::anyhow;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use kube::{Api, Client};
use serde_json::json;
use sluice_config::api::InferenceAutoscaler;
use tokio::sync::watch;

use super::objects::{IgnoredObject, kind};
use crate::platform::Target;
use crate::status::StatusTracker;
use crate::status_store::StatusStore;

/// Time limit of a call.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Status store in the API server. Writes only while this process leads.
pub(crate) struct ApiStatus {
    client: Client,
    leads: watch::Receiver<bool>,
}

impl ApiStatus {
    /// Creates a store in the client's API server.
    pub(crate) fn new(client: Client, leads: watch::Receiver<bool>) -> Self {
        Self { client, leads }
    }

    /// Writes why an object is not followed, unless its status has it already.
    pub(crate) async fn write_ignored(
        &self,
        name: &Target,
        ignored: IgnoredObject,
        at: Timestamp,
    ) -> anyhow::Result<()> {
        let before = ignored.status.clone();
        let mut tracker = StatusTracker::resume(ignored.status);
        tracker.failed(at, ignored.generation, ignored.reason, &ignored.message);
        if *tracker.status() == before {
            return Ok(());
        }
        self.patch(&name.namespace, &name.name, json!({"status": tracker.status()})).await
    }

    async fn patch(&self, namespace: &str, name: &str, patch: serde_json::Value) -> anyhow::Result<()> {
        if !*self.leads.borrow() {
            return Err(anyhow!("this process does not lead any more"));
        }
        let api = self.api(namespace);
        let patch = Patch::Merge(patch);
        let params = PatchParams::default();
        match tokio::time::timeout(CALL_TIMEOUT, api.patch_status(name, &params, &patch)).await {
            Ok(Ok(_)) => Ok(()),
            // Its user has removed it in the meantime.
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(()),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(anyhow!("the API server does not answer")),
        }
    }

    fn api(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &kind())
    }
}

#[async_trait]
impl StatusStore for ApiStatus {
    async fn read(&self, namespace: &str, name: &str) -> anyhow::Result<Option<InferenceAutoscaler>> {
        let api = self.api(namespace);
        let found = match tokio::time::timeout(CALL_TIMEOUT, api.get_opt(name)).await {
            Ok(found) => found?,
            Err(_) => return Err(anyhow!("the API server does not answer")),
        };
        let Some(found) = found else { return Ok(None) };
        let value = serde_json::to_value(found)?;
        Ok(Some(serde_json::from_value(value)?))
    }

    async fn write(&self, object: InferenceAutoscaler) -> anyhow::Result<()> {
        let (namespace, name) = crate::platform::name_of(&object);
        self.patch(&namespace, &name, json!({"status": object.status})).await
    }

    async fn remove(&self, _namespace: &str, _name: &str) -> anyhow::Result<()> {
        // The status was deleted with the object.
        Ok(())
    }
}
