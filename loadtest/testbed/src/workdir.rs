//! Folder of one cluster, with a short path, and the record of the cluster's first process.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::processes::Identity;
use crate::release::Minor;

/// Longest name: paths of sockets below the folder must stay under 108 characters.
const MAX_NAME: usize = 20;

/// Name of a cluster: a part of paths and of cgroups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name(String);

/// The folder of one cluster: `/tmp/sluice-NAME`.
#[derive(Debug, Clone)]
pub(crate) struct Workdir {
    name: Name,
    root: PathBuf,
}

/// Specification of a cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// Kubernetes release.
    pub kubernetes: Minor,
    /// Simulated GPUs of the node.
    pub gpus: usize,
    /// Their model.
    pub gpu_model: String,
    /// Simulated nodes.
    pub kwok_nodes: usize,
    /// Whether Prometheus runs too.
    pub prometheus: bool,
    /// Whether NetworkPolicies are enforced.
    #[serde(default)]
    pub network_policies: bool,
    /// The Python environment of the model server that is not ours, where it has an image.
    #[serde(default)]
    pub model_server: Option<PathBuf>,
    /// The manifests of Sluice; `None` where it is not installed.
    pub manifests: Option<PathBuf>,
    /// Folder of this tree's programs.
    pub bin_dir: PathBuf,
}

/// Record of a cluster's processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// `unshare`, outside of the namespaces.
    pub outer: Identity,
    /// The first process of the process namespace, as the machine sees it.
    pub init: Identity,
}

impl FromStr for Name {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if text.is_empty() || text.len() > MAX_NAME || !text.bytes().all(fits) {
            bail!("a cluster's name is 1 to {MAX_NAME} of a-z, 0-9 and -, not {text:?}");
        }
        Ok(Name(text.to_owned()))
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Workdir {
    /// Returns the folder of the cluster `name`, which need not exist.
    pub(crate) fn of(name: &Name) -> Self {
        Self { root: PathBuf::from(format!("/tmp/sluice-{name}")), name: name.clone() }
    }

    /// As [`Workdir::of`], with the folder somewhere else.
    #[cfg(test)]
    pub(crate) fn at(name: &Name, root: &Path) -> Self {
        Self { root: root.to_owned(), name: name.clone() }
    }

    /// The cluster's name.
    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A path below the folder.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// As [`Workdir::path`], as text: names and folders here are plain ASCII.
    pub(crate) fn text(&self, below: &str) -> String {
        self.path(below).display().to_string()
    }

    /// A program of the node, by its name.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.root.join("bin").join(name)
    }

    /// The administrator's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.path("etc/admin.kubeconfig")
    }

    /// Socket of the supervisor.
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.path("node.sock")
    }

    /// Where the simulated GPUs are, on the machine: what a node's driver root is in the cluster.
    pub(crate) fn driver_root(&self) -> PathBuf {
        self.path("driver")
    }

    /// Root of the cluster's cgroups, seen from the root of each hierarchy.
    pub(crate) fn cgroup_root(&self) -> String {
        format!("/sluice-{}", self.name)
    }

    /// Reads the specification of the cluster.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub(crate) fn spec(&self) -> Result<Spec> {
        read_json(&self.path("cluster.json"))
    }

    /// Writes the specification of the cluster.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write_spec(&self, spec: &Spec) -> Result<()> {
        write_json(&self.path("cluster.json"), spec)
    }

    /// Reads the record of the cluster's processes; `None` if no cluster was started.
    ///
    /// # Errors
    /// When there is one that cannot be read.
    pub(crate) fn record(&self) -> Result<Option<Record>> {
        let path = self.path("record.json");
        if path.exists() { read_json(&path).map(Some) } else { Ok(None) }
    }

    /// Writes the record of the cluster's processes.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write_record(&self, record: &Record) -> Result<()> {
        write_json(&self.path("record.json"), record)
    }

    /// Reads the record, and checks that its processes run.
    ///
    /// # Errors
    /// When the cluster is not up.
    pub(crate) fn running(&self) -> Result<Record> {
        match self.record()? {
            Some(record) if record.init.is_alive() => Ok(record),
            _ => bail!("no cluster {} is up; `cargo e2e -- up --name {}` brings it up", self.name, self.name),
        }
    }
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&bytes).with_context(|| path.display().to_string())
}

/// Writes a file atomically, so that no reader sees an incomplete one.
fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let temporary = path.with_extension("new");
    fs::write(&temporary, serde_json::to_vec_pretty(value)?)
        .and_then(|()| fs::rename(&temporary, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_short_part_of_a_path() {
        assert!("e2e".parse::<Name>().is_ok());
        for wrong in ["", "a/b", "..", "Upper", "a-name-that-is-far-too-long"] {
            assert!(wrong.parse::<Name>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_driver_socket_fits_into_a_socket_address() {
        let workdir = Workdir::of(&"x".repeat(MAX_NAME).parse().unwrap());
        assert!(workdir.text("kubelet/plugins/gpu.sluice.dev/dra.sock").len() < 108);
    }
}
