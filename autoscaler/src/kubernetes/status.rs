//! The status of InferenceAutoscalers in the API server. Only `/status` is ever written.

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

/// An answer that takes longer is none.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Statuses, as long as this process leads.
pub struct ApiStatus {
    client: Client,
    leads: watch::Receiver<bool>,
}

impl ApiStatus {
    /// Of the server that the client speaks to.
    pub fn new(client: Client, leads: watch::Receiver<bool>) -> Self {
        Self { client, leads }
    }

    /// Says why an object is not followed, unless its status says so already.
    ///
    /// # Errors
    /// In words.
    pub async fn write_ignored(
        &self,
        name: &Target,
        ignored: IgnoredObject,
        at: Timestamp,
    ) -> Result<(), String> {
        let before = ignored.status.clone();
        let mut tracker = StatusTracker::resume(ignored.status);
        tracker.failed(at, ignored.generation, ignored.reason, &ignored.message);
        if *tracker.status() == before {
            return Ok(());
        }
        self.patch(&name.namespace, &name.name, json!({"status": tracker.status()})).await
    }

    async fn patch(&self, namespace: &str, name: &str, patch: serde_json::Value) -> Result<(), String> {
        if !*self.leads.borrow() {
            return Err("this process does not lead any more".to_owned());
        }
        let api = self.api(namespace);
        let patch = Patch::Merge(patch);
        let params = PatchParams::default();
        match tokio::time::timeout(ANSWER_WITHIN, api.patch_status(name, &params, &patch)).await {
            Ok(Ok(_)) => Ok(()),
            // Its user has removed it meanwhile.
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the API server does not answer".to_owned()),
        }
    }

    fn api(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &kind())
    }
}

#[async_trait]
impl StatusStore for ApiStatus {
    async fn read(&self, namespace: &str, name: &str) -> Result<Option<InferenceAutoscaler>, String> {
        let api = self.api(namespace);
        let found = match tokio::time::timeout(ANSWER_WITHIN, api.get_opt(name)).await {
            Ok(found) => found.map_err(|error| error.to_string())?,
            Err(_) => return Err("the API server does not answer".to_owned()),
        };
        let Some(found) = found else { return Ok(None) };
        let value = serde_json::to_value(found).map_err(|error| error.to_string())?;
        serde_json::from_value(value).map(Some).map_err(|error| error.to_string())
    }

    async fn write(&self, object: InferenceAutoscaler) -> Result<(), String> {
        let (namespace, name) = crate::controller::name_of(&object);
        self.patch(&namespace, &name, json!({"status": object.status})).await
    }

    async fn remove(&self, _namespace: &str, _name: &str) -> Result<(), String> {
        // It went with the object.
        Ok(())
    }
}
