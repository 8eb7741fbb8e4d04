//! The samples of `config/samples` as a user gets them, with the few changes that a scenario needs.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::{Namespace, pods};
use crate::cluster::{Cluster, Look};

/// Name of the sample's Deployment, Service and InferenceAutoscaler.
pub(crate) const NAME: &str = "bert-inference";
/// Label selector of the sample's pods.
pub(crate) const PODS: &str = "app=bert-inference";
/// Path of the folder of [`Sample::journal`] in the sample's model container.
const JOURNAL_MOUNT: &str = "/journal";

/// Folder of the sample with a gateway, below `config/samples`.
const WITH_GATEWAY: &str = "bert-gateway";
/// Label of all objects of a gateway.
const GATEWAY_LABEL: (&str, &str) = ("app.kubernetes.io/name", "sluice-gateway");

/// Objects of a sample.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    objects: Vec<Value>,
}

impl Sample {
    /// Reads the sample `bert-inference` from beside the manifests that the cluster was installed from.
    ///
    /// # Errors
    /// When the file does not exist or is not YAML.
    pub(crate) fn read(cluster: &Cluster) -> Result<Self> {
        let manifests = cluster.workdir().spec()?.manifests.context("Sluice is not installed")?;
        let path = manifests.join("../samples/bert-inference.yaml");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let objects: Vec<Value> =
            serde_saphyr::from_multiple(&text).with_context(|| path.display().to_string())?;
        Ok(Self { objects: objects.into_iter().filter(Value::is_object).collect() })
    }

    /// Returns the target of the sample with a gateway, and the objects of the gateway, as kustomize renders them.
    ///
    /// # Errors
    /// When the files do not exist or kustomize rejects them.
    pub(crate) async fn with_gateway(cluster: &Cluster) -> Result<(Self, Vec<Value>)> {
        let manifests = cluster.workdir().spec()?.manifests.context("Sluice is not installed")?;
        let folder = manifests.join("../samples").join(WITH_GATEWAY);
        let folder = folder.to_str().context("the path of the manifests is not text")?;
        let text = cluster.kubectl(&["kustomize", folder]).await?;
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text).context("what kustomize makes")?;
        let (gateway, objects) = objects.into_iter().filter(Value::is_object).partition(|object| {
            let (label, value) = GATEWAY_LABEL;
            object["metadata"]["labels"][label] == value
                || object["spec"]["selector"]["matchLabels"][label] == value
        });
        Ok((Self { objects }, gateway))
    }

    /// Returns the object of a kind.
    ///
    /// # Errors
    /// When the sample has no such object.
    pub(crate) fn object(&mut self, kind: &str) -> Result<&mut Value> {
        let mut objects = self.objects.iter_mut();
        objects.find(|object| object["kind"] == kind).with_context(|| format!("the sample has no {kind}"))
    }

    /// Returns the sample without the object of a kind.
    pub(crate) fn without(mut self, kind: &str) -> Self {
        self.objects.retain(|object| object["kind"] != kind);
        self
    }

    /// Returns the sample with an initial number of replicas.
    pub(crate) fn replicas(mut self, replicas: u32) -> Result<Self> {
        self.object("Deployment")?["spec"]["replicas"] = json!(replicas);
        Ok(self)
    }

    /// Returns the Deployment alone, under another name. It uses the same claim template.
    pub(crate) fn renamed(mut self, name: &str) -> Result<Self> {
        self.objects.retain(|object| object["kind"] == "Deployment");
        let deployment = self.object("Deployment")?;
        deployment["metadata"]["name"] = json!(name);
        deployment["spec"]["selector"]["matchLabels"]["app"] = json!(name);
        deployment["spec"]["template"]["metadata"]["labels"]["app"] = json!(name);
        Ok(self)
    }

    /// Returns the pod template's spec.
    ///
    /// # Errors
    /// When the sample has no Deployment.
    pub(crate) fn pod(&mut self) -> Result<&mut Value> {
        Ok(&mut self.object("Deployment")?["spec"]["template"]["spec"])
    }

    /// Returns the sample with further arguments for the model (simulated inference).
    pub(crate) fn model_arguments(mut self, arguments: &[&str]) -> Result<Self> {
        let given =
            self.pod()?["containers"][0]["args"].as_array_mut().context("the model has no arguments")?;
        given.extend(arguments.iter().map(|argument| json!(argument)));
        Ok(self)
    }

    /// Returns the sample with a model that writes each call to a file named after the pod. The journal can still be
    /// read when the pods are gone.
    pub(crate) fn journal(self, cluster: &Cluster, namespace: &str) -> Result<(Self, Journal)> {
        let folder = cluster.workdir().path(&format!("journal-{namespace}"));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)?;
        // The model does not run as root.
        std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
        let mut sample = self.model_arguments(&["--journal", &format!("{JOURNAL_MOUNT}/$(POD_NAME)")])?;
        let pod = sample.pod()?;
        let volumes =
            pod.as_object_mut().context("a pod is an object")?.entry("volumes").or_insert(json!([]));
        push(volumes, json!({ "name": "journal", "hostPath": { "path": folder, "type": "Directory" } }))?;
        let model = pod["containers"][0].as_object_mut().context("the sample has no container")?;
        push(
            model.entry("volumeMounts").or_insert(json!([])),
            json!({ "name": "journal", "mountPath": JOURNAL_MOUNT }),
        )?;
        push(
            model.entry("env").or_insert(json!([])),
            json!({ "name": "POD_NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }),
        )?;
        Ok((sample, Journal { folder }))
    }

    /// Returns all objects as one list, for `kubectl apply`.
    pub(crate) fn list(&self) -> String {
        json!({ "apiVersion": "v1", "kind": "List", "items": self.objects }).to_string()
    }

    /// Applies the sample and waits until all its replicas are ready.
    pub(crate) async fn start(&self, namespace: &Namespace, within: Duration) -> Result<()> {
        namespace.apply(&self.list()).await?;
        namespace.wait_rollout(&format!("deployment/{NAME}"), within).await
    }
}

fn push(list: &mut Value, item: Value) -> Result<()> {
    list.as_array_mut().context("a list was expected")?.push(item);
    Ok(())
}

/// Returns the address and port of the sample's Service.
///
/// # Errors
/// When kubectl fails, for example because there is no Service.
pub(crate) async fn address(namespace: &Namespace) -> Result<String> {
    let what = "jsonpath={.spec.clusterIP}:{.spec.ports[0].port}";
    namespace.kubectl(&["get", "service", NAME, "-o", what]).await
}

/// Waits until the Service takes connections from this process: kube-proxy follows the pods with a delay.
///
/// # Errors
/// When it takes no connection within a minute.
pub(crate) async fn wait_reachable(cluster: &Cluster, target: &str) -> Result<()> {
    cluster
        .wait_for(&format!("{target} takes connections"), Duration::from_secs(60), || async {
            tokio::net::TcpStream::connect(target).await?;
            Ok(Look::Done(()))
        })
        .await
}

/// Calls that reached the models, in one file per pod.
#[derive(Debug)]
pub(crate) struct Journal {
    folder: PathBuf,
}

/// One call of a model.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Call {
    /// Start of the call, in microseconds since 1970.
    pub(crate) t_us: u64,
    /// Ids of the rows of the call; 0 is a warm-up row.
    pub(crate) ids: Vec<i64>,
}

impl Call {
    /// Returns whether the call has a client's row.
    pub(crate) fn is_clients(&self) -> bool {
        self.ids.iter().any(|id| *id != 0)
    }
}

impl Journal {
    /// Returns the calls of every pod so far, sorted by the pod's name, each pod's calls in order.
    pub(crate) fn pods(&self) -> Result<Vec<(String, Vec<Call>)>> {
        let mut pods = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let text = std::fs::read_to_string(entry.path())?;
            let calls = text.lines().map(serde_json::from_str).collect::<serde_json::Result<Vec<Call>>>();
            let name = entry.file_name().to_string_lossy().into_owned();
            pods.push((name.clone(), calls.with_context(|| format!("the journal of {name}"))?));
        }
        pods.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(pods)
    }

    /// Waits until a client's row has reached a model, that is, until the load has begun.
    pub(crate) async fn wait_used(&self, cluster: &Cluster) -> Result<()> {
        cluster
            .wait_for("a client's request reaches a model", Duration::from_secs(60), || async {
                let is_used = self.pods()?.iter().any(|(_, calls)| calls.iter().any(Call::is_clients));
                Ok(if is_used { Look::Done(()) } else { Look::NotYet("none did".to_owned()) })
            })
            .await
    }

    /// Fails when a client's row reached a model before the warm-up, or when clients' rows reached fewer than
    /// `at_least` models.
    pub(crate) fn assert_no_cold_request(&self, at_least: usize) -> Result<()> {
        let pods = self.pods()?;
        let mut used = 0;
        for (pod, calls) in &pods {
            if calls.iter().any(Call::is_clients) {
                used += 1;
            }
            match calls.first() {
                Some(first) if first.is_clients() => {
                    bail!("the first call of {pod} is a client's: {:?}", first.ids)
                }
                _ => {}
            }
        }
        ensure!(
            used >= at_least,
            "clients' requests reached {used} models, not {at_least}: {:?}",
            names(&pods)
        );
        Ok(())
    }
}

fn names(pods: &[(String, Vec<Call>)]) -> Vec<&str> {
    pods.iter().map(|(name, _)| name.as_str()).collect()
}

/// Restarts the sample's pods one after the other and fails when one of the old pods is left.
pub(crate) async fn replace_pods(cluster: &Cluster, namespace: &Namespace, within: Duration) -> Result<()> {
    let before = pods::list(cluster, namespace.name, PODS).await?;
    let deployment = format!("deployment/{NAME}");
    namespace.kubectl(&["rollout", "restart", &deployment]).await?;
    namespace.wait_rollout(&deployment, within).await?;
    let after = pods::list(cluster, namespace.name, PODS).await?;
    ensure!(
        after.iter().all(|pod| before.iter().all(|old| pods::name(old) != pods::name(pod))),
        "a pod was not replaced"
    );
    Ok(())
}
