//! A namespace for one scenario, removed with everything in it when the scenario is over.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::cluster::{Cluster, Look};

/// Time within which everything in a namespace must be gone.
const GONE_WITHIN: Duration = Duration::from_secs(120);

/// Label of the namespaces of scenarios.
const LABEL: &str = "testbed.sluice.dev/scenario";

/// A namespace of the cluster.
#[derive(Clone)]
pub(crate) struct Namespace {
    cluster: Cluster,
    pub name: &'static str,
}

impl Namespace {
    /// Creates the namespace anew: one that an earlier run left is removed first.
    ///
    /// # Errors
    /// When the API server rejects it, or pods of an earlier run do not end.
    pub(crate) async fn create(cluster: &Cluster, name: &'static str) -> Result<Self> {
        let namespace = Self { cluster: cluster.clone(), name };
        namespace.remove().await?;
        let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": { LABEL: "" } } });
        cluster.apply(&object.to_string()).await?;
        // Before that, the API server rejects pods.
        cluster
            .wait_for("the namespace has its service account", GONE_WITHIN, || async {
                namespace.kubectl(&["get", "serviceaccount", "default"]).await.map(Look::Done)
            })
            .await?;
        Ok(namespace)
    }

    /// Runs kubectl in this namespace and returns what it printed.
    ///
    /// # Errors
    /// With kubectl's own message.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let arguments: Vec<&str> = ["-n", self.name].into_iter().chain(arguments.iter().copied()).collect();
        self.cluster.kubectl(&arguments).await
    }

    /// Applies objects, as YAML or JSON, in this namespace.
    ///
    /// # Errors
    /// With the API server's own message.
    pub(crate) async fn apply(&self, objects: &str) -> Result<()> {
        let arguments = ["-n", self.name, "apply", "-f", "-"];
        self.cluster.kubectl_with_input(&arguments, objects).await.map(drop)
    }

    /// Returns an object as the API server would store it, after all admission.
    ///
    /// # Errors
    /// With the API server's own message.
    pub(crate) async fn dry_run(&self, object: &str) -> Result<serde_json::Value> {
        let arguments = ["-n", self.name, "create", "--dry-run=server", "-o", "json", "-f", "-"];
        Ok(serde_json::from_str(&self.cluster.kubectl_with_input(&arguments, object).await?)?)
    }

    /// Waits until a Deployment is rolled out.
    ///
    /// # Errors
    /// When it is not rolled out in time.
    pub(crate) async fn wait_rollout(&self, workload: &str, within: Duration) -> Result<()> {
        self.cluster.wait_rollout(self.name, workload, within).await
    }

    /// Removes the namespaces that failed scenarios have left: the next scenario needs their slices.
    ///
    /// # Errors
    /// When something stays.
    pub(crate) async fn remove_all(cluster: &Cluster) -> Result<()> {
        let timeout = format!("--timeout={}s", GONE_WITHIN.as_secs());
        cluster.kubectl(&["delete", "namespace", "--selector", LABEL, "--wait", &timeout]).await.map(drop)
    }

    /// Removes the namespace and waits until everything in it is gone.
    ///
    /// # Errors
    /// When something stays.
    pub(crate) async fn remove(&self) -> Result<()> {
        let timeout = format!("--timeout={}s", GONE_WITHIN.as_secs());
        let arguments = ["delete", "namespace", self.name, "--ignore-not-found", "--wait", &timeout];
        self.cluster.kubectl(&arguments).await.map(drop)
    }
}
