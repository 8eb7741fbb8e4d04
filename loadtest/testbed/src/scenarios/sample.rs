//! The samples of `config/samples` as their user gets them, with the few changes that a scenario needs.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::{Namespace, pods};
use crate::cluster::{Cluster, Look};

/// Name of the sample's Deployment, Service and InferenceAutoscaler.
pub(crate) const NAME: &str = "bert-inference";
/// Label selector of its pods.
pub(crate) const PODS: &str = "app=bert-inference";
/// Where the sample's model container finds the folder of [`Sample::journal`].
const JOURNAL_MOUNT: &str = "/journal";

/// The sample with a gateway, and the name of its target.
const WITH_GATEWAY: &str = "bert-gateway";
/// Label of everything of a gateway.
const GATEWAY_LABEL: (&str, &str) = ("app.kubernetes.io/name", "sluice-gateway");

/// The sample's objects.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    objects: Vec<Value>,
}

impl Sample {
    /// Reads it, from beside the manifests that the cluster was installed from.
    ///
    /// # Errors
    /// When it is not there, or is not YAML.
    pub(crate) fn read(cluster: &Cluster) -> Result<Self> {
        let manifests = cluster.workdir().spec()?.manifests.context("Sluice is not installed")?;
        let path = manifests.join("../samples/bert-inference.yaml");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let objects: Vec<Value> =
            serde_saphyr::from_multiple(&text).with_context(|| path.display().to_string())?;
        Ok(Self { objects: objects.into_iter().filter(Value::is_object).collect() })
    }

    /// The target of the sample with a gateway, and the objects of its gateway, as kustomize makes them.
    ///
    /// # Errors
    /// When they are not there, or kustomize refuses them.
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

    /// The object of a kind.
    ///
    /// # Errors
    /// When the sample has none.
    pub(crate) fn object(&mut self, kind: &str) -> Result<&mut Value> {
        let mut objects = self.objects.iter_mut();
        objects.find(|object| object["kind"] == kind).with_context(|| format!("the sample has no {kind}"))
    }

    /// The same without the object of a kind.
    pub(crate) fn without(mut self, kind: &str) -> Self {
        self.objects.retain(|object| object["kind"] != kind);
        self
    }

    /// Returns the sample with an initial number of replicas.
    pub(crate) fn replicas(mut self, replicas: u32) -> Result<Self> {
        self.object("Deployment")?["spec"]["replicas"] = json!(replicas);
        Ok(self)
    }

    /// The Deployment alone, under another name; it claims by the same template.
    pub(crate) fn renamed(mut self, name: &str) -> Result<Self> {
        self.objects.retain(|object| object["kind"] == "Deployment");
        let deployment = self.object("Deployment")?;
        deployment["metadata"]["name"] = json!(name);
        deployment["spec"]["selector"]["matchLabels"]["app"] = json!(name);
        deployment["spec"]["template"]["metadata"]["labels"]["app"] = json!(name);
        Ok(self)
    }

    /// The pod template's spec.
    ///
    /// # Errors
    /// When the sample has no Deployment.
    pub(crate) fn pod(&mut self) -> Result<&mut Value> {
        Ok(&mut self.object("Deployment")?["spec"]["template"]["spec"])
    }

    /// Further arguments for the model (simulated inference).
    pub(crate) fn model_arguments(mut self, arguments: &[&str]) -> Result<Self> {
        let given =
            self.pod()?["containers"][0]["args"].as_array_mut().context("the model has no arguments")?;
        given.extend(arguments.iter().map(|argument| json!(argument)));
        Ok(self)
    }

    /// Every pod's model writes what reaches it to a file of the pod's name; the result has them after the pods
    /// are gone too.
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

    /// Everything as one list, for `kubectl apply`.
    pub(crate) fn list(&self) -> String {
        json!({ "apiVersion": "v1", "kind": "List", "items": self.objects }).to_string()
    }

    /// Applies it and waits until as many pods as asked for are ready.
    pub(crate) async fn start(&self, namespace: &Namespace, within: Duration) -> Result<()> {
        namespace.apply(&self.list()).await?;
        namespace.wait_rollout(&format!("deployment/{NAME}"), within).await
    }
}

fn push(list: &mut Value, item: Value) -> Result<()> {
    list.as_array_mut().context("a list was expected")?.push(item);
    Ok(())
}

/// Address and port of the sample's Service.
///
/// # Errors
/// When it has none.
pub(crate) async fn address(namespace: &Namespace) -> Result<String> {
    let what = "jsonpath={.spec.clusterIP}:{.spec.ports[0].port}";
    namespace.kubectl(&["get", "service", NAME, "-o", what]).await
}

/// Waits until the Service leads somewhere, from here: kube-proxy follows the pods with a delay.
///
/// # Errors
/// When it does not within a minute.
pub(crate) async fn wait_reachable(cluster: &Cluster, target: &str) -> Result<()> {
    cluster
        .wait_for(&format!("{target} takes connections"), Duration::from_secs(60), || async {
            tokio::net::TcpStream::connect(target).await?;
            Ok(Look::Done(()))
        })
        .await
}

/// What reached the models, by pod.
#[derive(Debug)]
pub(crate) struct Journal {
    folder: PathBuf,
}

/// One call of a model.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Call {
    /// When it began: microseconds since 1970.
    pub(crate) t_us: u64,
    /// Ids of its rows; 0 is a warm-up row.
    pub(crate) ids: Vec<i64>,
}

impl Call {
    /// Whether it carries a client's row.
    pub(crate) fn is_clients(&self) -> bool {
        self.ids.iter().any(|id| *id != 0)
    }
}

impl Journal {
    /// The calls of every pod so far, by pod, in order.
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

    /// Waits until a client's row has reached a model: the load has begun.
    pub(crate) async fn wait_used(&self, cluster: &Cluster) -> Result<()> {
        cluster
            .wait_for("a client's request reaches a model", Duration::from_secs(60), || async {
                let is_used = self.pods()?.iter().any(|(_, calls)| calls.iter().any(Call::is_clients));
                Ok(if is_used { Look::Done(()) } else { Look::NotYet("none did".to_owned()) })
            })
            .await
    }

    /// Fails when a client's row reached a model before its warm-up; `at_least` models must have been used.
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

/// Restarts the sample's pods one after the other, and sees that none is left of those that were there.
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
