//! The install that README.md describes, under another registry's name: its commands are run as they stand there. What is missing
//! is Docker; in its place a program gives the images that containerd has the names that would be built and pushed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::Api;
use kube::api::ListParams;
use sluice_config::names::{SYSTEM_NAMESPACE, pod as names};

use super::sample::PODS;
use super::{Namespace, pods};
use crate::cluster::{Cluster, Look};
use crate::contents::install;
use crate::images;

/// How long the sample may take to serve.
const WITHIN: Duration = Duration::from_secs(120);
/// Line of README.md that a user edits.
const SAID: &str = "export REGISTRY=registry.example.com/team TAG=0.1.0";
const REGISTRY: &str = "registry.test:5000/other/team";
const TAG: &str = "7.8.9-x";
/// The Secret that README.md makes.
const SECRET: &str = "sluice-registry";
/// Answers `docker build --build-arg BIN=PROGRAM --tag IMAGE .` and `docker push IMAGE` with containerd's images.
const DOCKER: &str = r#"#!/bin/sh
set -e
case "$1" in
build) exec ctr images tag --force "sluice.dev/${3#BIN=}:VERSION" "$5" ;;
push) ctr images ls -q | grep -qxF "$2" ;;
*) echo "docker $*: not in README.md" >&2; exit 1 ;;
esac
"#;

/// Everything, the injected sidecar too, runs from the registry that the reader has chosen.
pub(super) async fn install_by_the_readme(cluster: Cluster) -> Result<()> {
    let manifests = cluster.workdir().spec()?.manifests.context("Sluice is not installed")?;
    let namespace = Namespace::create(&cluster, "own-registry").await?;
    let folder = cluster.workdir().path("own-registry");
    let installed = paste(&cluster, &manifests, &folder).await;
    let held = match installed {
        Ok(()) => check(&cluster, &namespace).await,
        Err(error) => Err(error),
    };
    // Also after a failure: the next scenario expects the installation that the cluster was made with.
    namespace.remove().await?;
    cluster.kubectl(&["delete", "networkpolicies", "--all", "-n", SYSTEM_NAMESPACE]).await?;
    cluster.kubectl(&["delete", "secret", SECRET, "-n", SYSTEM_NAMESPACE, "--ignore-not-found"]).await?;
    install::install(&cluster, &manifests).await?;
    let _ = fs::remove_dir_all(&folder);
    held
}

/// Runs the shell blocks of README.md's chapter on Kubernetes in a copy of the manifests.
async fn paste(cluster: &Cluster, manifests: &Path, folder: &Path) -> Result<()> {
    let config = manifests.parent().context("the manifests have no parent folder")?;
    let readme = config.join("../README.md");
    let text = fs::read_to_string(&readme).with_context(|| readme.display().to_string())?;
    let chapter = text.split("\n## On Kubernetes\n").nth(1).and_then(|rest| rest.split("\n## ").next());
    let blocks = chapter.context("README.md has no chapter on Kubernetes")?.split("```sh\n").skip(1);
    let commands: String = blocks.filter_map(|block| block.split("```").next()).collect();
    ensure!(commands.matches(SAID).count() == 1, "README.md sets registry and tag in another way");
    let commands = commands.replace(SAID, &format!("export REGISTRY={REGISTRY} TAG={TAG}"));
    // In the namespace of the scenario, not in the kubeconfig's default namespace.
    let commands = commands.replace("sluice-system default;", "sluice-system own-registry;");
    let programs = folder.join("programs");
    fs::create_dir_all(&programs)?;
    let copied = tokio::process::Command::new("cp").arg("-r").arg(config).arg(folder.join("config")).status();
    ensure!(copied.await?.success(), "cannot copy {}", config.display());
    let docker = programs.join("docker");
    fs::write(&docker, DOCKER.replace("VERSION", env!("CARGO_PKG_VERSION")))?;
    fs::set_permissions(&docker, fs::Permissions::from_mode(0o755))?;
    // A kubeconfig with a default namespace, as a user may have one.
    let kubeconfig = folder.join("kubeconfig");
    fs::copy(cluster.workdir().kubeconfig(), &kubeconfig)?;
    let path = std::env::var("PATH").unwrap_or_default();
    let output = tokio::process::Command::new("bash")
        .args(["-euo", "pipefail", "-c"])
        .arg(format!("kubectl config set-context --current --namespace own-registry\n{commands}"))
        .current_dir(folder)
        .env("PATH", format!("{}:{path}", programs.display()))
        .env("KUBECONFIG", &kubeconfig)
        .envs([("REGISTRY_USER", "somebody"), ("REGISTRY_PASSWORD", "secret")])
        .kill_on_drop(true)
        .output()
        .await
        .context("cannot start bash")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("the commands of README.md: {}\n{}", output.status, said.trim_end());
    }
    Ok(())
}

async fn check(cluster: &Cluster, namespace: &Namespace) -> Result<()> {
    // The second `apply` of README.md changes what the first one has rolled out.
    install::wait_ready(cluster).await?;
    for pod in pods::list(cluster, SYSTEM_NAMESPACE, "app.kubernetes.io/part-of=sluice").await? {
        all_ours(&pod)?;
    }
    wait_replaced(cluster).await?;
    // The first pod was injected before the Secret was named.
    namespace.kubectl(&["rollout", "restart", "deployment/bert-inference"]).await?;
    namespace.wait_rollout("deployment/bert-inference", WITHIN).await?;
    let pod = pods::wait_ready(cluster, namespace, PODS, 1, WITHIN).await?.pop().context("one pod")?;
    all_ours(&pod)?;
    let spec = pod.spec.as_ref().context("a pod has a specification")?;
    let sidecar = spec.init_containers.iter().flatten().find(|container| container.name == names::SIDECAR);
    let image = sidecar.and_then(|sidecar| sidecar.image.as_deref());
    let expected = format!("{REGISTRY}/sluice-batcher:{TAG}");
    ensure!(image == Some(&expected), "the sidecar's image is {image:?}, not {expected}");
    let secrets = spec.image_pull_secrets.iter().flatten();
    let secrets: Vec<&str> = secrets.map(|secret| secret.name.as_str()).collect();
    ensure!(secrets == [SECRET], "the injected pod pulls with {secrets:?}");
    Ok(())
}

/// Waits until the preloaders of the first `apply` are gone: while one ends it still answers on connections that it has.
async fn wait_replaced(cluster: &Cluster) -> Result<()> {
    let preloaders = Api::<Pod>::namespaced(cluster.client(), SYSTEM_NAMESPACE);
    let labels = ListParams::default().labels("app.kubernetes.io/name=sluice-preloader");
    cluster
        .wait_for("the earlier preloaders are gone", WITHIN, || async {
            let found = preloaders.list(&labels).await?;
            let ending = found.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some()).count();
            Ok(if ending == 0 { Look::Done(()) } else { Look::NotYet(format!("{ending} are ending")) })
        })
        .await
}

/// Fails where a container of the pod has an image of another registry or another tag.
fn all_ours(pod: &Pod) -> Result<()> {
    let spec = pod.spec.as_ref().context("a pod has a specification")?;
    let containers: Vec<&Container> =
        spec.containers.iter().chain(spec.init_containers.iter().flatten()).collect();
    for container in containers {
        let image = container.image.as_deref().unwrap_or_default();
        let is_ours = images::PRODUCT.iter().any(|program| image == format!("{REGISTRY}/{program}:{TAG}"));
        ensure!(is_ours, "{} of {} runs {image}", container.name, pods::name(pod));
    }
    Ok(())
}
