//! Sources of objects: an object directory, or an API server.

use anyhow::anyhow;
use std::time::Duration;

use kube::api::ListParams;
use kube::core::DynamicObject;
use kube::{Api, Client, Config};
use sluice_config::api::InferenceAutoscaler;
use sluice_config::objects::ObjectDir;
use sluice_inventory::Cluster;

use crate::kubernetes::objects::kind;
use crate::platform::local::cluster::read_cluster;

/// Time limit of a call.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Source of objects.
pub trait ObjectSource {
    /// Returns slices, claims and classes.
    fn cluster(&self) -> anyhow::Result<Cluster>;

    /// Returns the InferenceAutoscalers of all namespaces.
    fn autoscalers(&self) -> anyhow::Result<Vec<InferenceAutoscaler>>;

    /// Returns the namespace of names that are given without one.
    fn default_namespace(&self) -> String;

    /// Returns a hint why there may be no objects.
    fn hint(&self) -> &'static str;
}

impl ObjectSource for ObjectDir {
    fn cluster(&self) -> anyhow::Result<Cluster> {
        exists(self)?;
        read_cluster(self)
    }

    fn autoscalers(&self) -> anyhow::Result<Vec<InferenceAutoscaler>> {
        exists(self)?;
        Ok(self.list()?)
    }

    fn default_namespace(&self) -> String {
        "default".to_owned()
    }

    fn hint(&self) -> &'static str {
        "are sluice-driver and sluice-autoscaler running, with this store?"
    }
}

/// Checks that the directory exists. A missing one would look like a machine without GPUs.
fn exists(store: &ObjectDir) -> anyhow::Result<()> {
    if store.root().is_dir() {
        return Ok(());
    }
    Err(anyhow!(
        "there is no object directory {}; --store must name the one that sluice-driver and sluice-autoscaler use",
        store.root().display()
    ))
}

/// The cluster of the kubeconfig's current context, or of the pod that this runs in.
pub struct ApiServer {
    runtime: tokio::runtime::Runtime,
    client: Client,
    namespace: String,
}

impl ApiServer {
    /// Reads the kubeconfig, without a request yet.
    pub fn connect() -> anyhow::Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| anyhow!("the runtime cannot be started: {error}"))?;
        let no_cluster = |error: String| {
            anyhow!("no cluster to ask: {error}; set KUBECONFIG, or name an object directory with --store")
        };
        let config = runtime.block_on(Config::infer()).map_err(|error| no_cluster(error.to_string()))?;
        let namespace = config.default_namespace.clone();
        let client = {
            // The client starts tasks of its own.
            let _inside = runtime.enter();
            Client::try_from(config).map_err(|error| no_cluster(error.to_string()))?
        };
        Ok(Self { runtime, client, namespace })
    }

    fn ask<T>(&self, asked: impl Future<Output = Result<T, kube::Error>>) -> anyhow::Result<T> {
        let answer = async { tokio::time::timeout(CALL_TIMEOUT, asked).await };
        match self.runtime.block_on(answer) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(kube::Error::Api(status))) => Err(anyhow!("the API server says: {}", status.message)),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(anyhow!("the API server did not answer within {} s", CALL_TIMEOUT.as_secs())),
        }
    }
}

impl ObjectSource for ApiServer {
    fn cluster(&self) -> anyhow::Result<Cluster> {
        self.ask(sluice_inventory_watch::read(self.client.clone()))
    }

    fn autoscalers(&self) -> anyhow::Result<Vec<InferenceAutoscaler>> {
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &kind());
        let found = async { api.list(&ListParams::default()).await };
        let all = self.ask(found)?.items;
        // An object that this version cannot read must not hide the others.
        Ok(all
            .into_iter()
            .filter_map(|object| serde_json::from_value(serde_json::to_value(object).ok()?).ok())
            .collect())
    }

    fn default_namespace(&self) -> String {
        self.namespace.clone()
    }

    fn hint(&self) -> &'static str {
        "is Sluice installed in this cluster, and does its driver run on a node with GPUs?"
    }
}
