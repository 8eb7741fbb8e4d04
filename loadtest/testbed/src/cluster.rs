//! Client of a running cluster, for provisioning and tests. It works inside the cluster's namespaces.

use std::future::Future;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::api::core::v1::Node;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::Instant;

use crate::node::control::SupervisorClient;
use crate::workdir::Workdir;

/// Polling interval of waits.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Result of one check of a condition.
#[derive(Debug)]
pub(crate) enum Look<T> {
    /// The condition holds; the value is what was found.
    Done(T),
    /// The condition does not hold yet; the text describes the state, for the error of a wait that fails.
    NotYet(String),
}

/// A running cluster.
#[derive(Clone)]
pub(crate) struct Cluster {
    workdir: Workdir,
    client: Client,
}

impl Cluster {
    /// Creates a client with the administrator's credentials. Does not connect yet.
    ///
    /// # Errors
    /// When its kubeconfig cannot be read.
    pub(crate) async fn connect(workdir: Workdir) -> Result<Self> {
        let path = workdir.kubeconfig();
        let kubeconfig = Kubeconfig::read_from(&path).with_context(|| path.display().to_string())?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Self { workdir, client: Client::try_from(config)? })
    }

    /// Returns a client for typed requests.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Returns the folder with the cluster's files and logs.
    pub(crate) fn workdir(&self) -> &Workdir {
        &self.workdir
    }

    /// Returns a client that starts, stops and kills the processes of the control plane and the node.
    pub(crate) fn control(&self) -> SupervisorClient {
        SupervisorClient::new(self.workdir.control_socket())
    }

    /// Sends SIGKILL to a process of the control plane or the node, and returns when it runs again.
    ///
    /// # Errors
    /// When there is no such component, or it does not run again.
    pub(crate) async fn crash(&self, component: &str) -> Result<()> {
        let (control, component) = (self.control(), component.to_owned());
        tokio::task::spawn_blocking(move || control.crash(&component)).await?
    }

    /// Runs kubectl and returns its output.
    ///
    /// # Errors
    /// With kubectl's own message.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_with_input(arguments, "").await
    }

    /// Runs kubectl as [`Cluster::kubectl`] does, with `input` on its standard input.
    ///
    /// # Errors
    /// With kubectl's own message.
    pub(crate) async fn kubectl_with_input(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut child = Command::new(self.workdir.program("kubectl"))
            .arg("--kubeconfig")
            .arg(self.workdir.kubeconfig())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start kubectl")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).await.context("kubectl does not read its input")?;
        }
        let output = child.wait_with_output().await?;
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr);
            bail!("kubectl {}: {}", arguments.join(" "), message.trim_end());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Applies objects, as YAML or JSON.
    ///
    /// # Errors
    /// With the API server's own message.
    pub(crate) async fn apply(&self, objects: &str) -> Result<()> {
        self.kubectl_with_input(&["apply", "-f", "-"], objects).await.map(drop)
    }

    /// Repeats a check until the condition holds. A check that fails counts as not yet.
    ///
    /// # Errors
    /// After `within`, with the state that the last check found.
    pub(crate) async fn wait_for<T, F>(
        &self,
        what: &str,
        within: Duration,
        mut look: impl FnMut() -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<Look<T>>>,
    {
        let start = Instant::now();
        let mut last = "nothing was seen".to_owned();
        loop {
            // A check that hangs must not outlast the wait.
            match tokio::time::timeout_at(start + within, look()).await {
                Ok(Ok(Look::Done(value))) => return Ok(value),
                Ok(Ok(Look::NotYet(seen))) => last = seen,
                Ok(Err(error)) => last = format!("{error:#}"),
                Err(_) => {}
            }
            if start.elapsed() + LOOK_EVERY > within {
                return Err(anyhow!("not within {} s: {what}; last seen: {last}", within.as_secs()));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until the API server is ready.
    ///
    /// # Errors
    /// When it is not in time.
    pub(crate) async fn wait_api(&self, within: Duration) -> Result<()> {
        self.wait_for("the API server is ready", within, || async {
            let request = http::Request::get("/readyz").body(Vec::new())?;
            let text = self.client.request_text(request).await?;
            Ok(if text == "ok" { Look::Done(()) } else { Look::NotYet(text) })
        })
        .await
    }

    /// Waits until a node is Ready.
    ///
    /// # Errors
    /// When it is not in time, with its conditions.
    pub(crate) async fn wait_node(&self, name: &str, within: Duration) -> Result<()> {
        let nodes: Api<Node> = Api::all(self.client());
        self.wait_for(&format!("node {name} is Ready"), within, || async {
            let node = nodes.get(name).await?;
            let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
            let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
            Ok(match ready {
                Some(ready) if ready.status == "True" => Look::Done(()),
                Some(ready) => Look::NotYet(ready.message.clone().unwrap_or_default()),
                None => Look::NotYet("it has no condition Ready".to_owned()),
            })
        })
        .await
    }

    /// Waits until a Deployment, DaemonSet or StatefulSet is rolled out: `deployment/bert-inference`.
    ///
    /// # Errors
    /// When it is not in time.
    pub(crate) async fn wait_rollout(&self, namespace: &str, workload: &str, within: Duration) -> Result<()> {
        let timeout = format!("--timeout={}s", within.as_secs());
        self.kubectl(&["-n", namespace, "rollout", "status", workload, &timeout]).await.map(drop)
    }
}
