//! Components of a one-node Kubernetes: command lines and settings, as plain data.

mod add_ons;
mod control_plane;
mod node;

use std::ffi::OsString;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::host::network;
use crate::release::Release;
use crate::workdir::{Spec, Workdir};

pub(crate) use add_ons::SIMULATED_NODE;

/// Name of the real node.
pub(crate) const NODE_NAME: &str = "node-a";

/// Address of etcd.
const ETCD: &str = "127.0.0.1:2379";
/// Time limit of one connection attempt to a port.
const CONNECT_WITHIN: Duration = Duration::from_millis(200);

/// Process that is kept running.
#[derive(Debug, Clone)]
pub(crate) struct Component {
    /// Name, also of its log file.
    pub name: &'static str,
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    /// Prerequisite of its start; `None` if it can start at once.
    pub after: Option<Prerequisite>,
}

/// Something that must be reachable before a component starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Prerequisite {
    /// A process listens on this address.
    Port(SocketAddr),
    /// A process listens on this Unix socket.
    Socket(PathBuf),
}

impl Prerequisite {
    /// Returns whether it is met now.
    pub(crate) fn is_met(&self) -> bool {
        match self {
            Prerequisite::Port(address) => TcpStream::connect_timeout(address, CONNECT_WITHIN).is_ok(),
            Prerequisite::Socket(path) => UnixStream::connect(path).is_ok(),
        }
    }
}

/// Returns all components, in the order in which they start.
pub(crate) fn all(workdir: &Workdir, spec: &Spec) -> Vec<Component> {
    let release = spec.kubernetes.release();
    let mut components = vec![
        control_plane::etcd(workdir),
        node::containerd(workdir),
        control_plane::api_server(workdir, release),
        control_plane::controller_manager(workdir, release),
        control_plane::scheduler(workdir, release),
        node::kubelet(workdir),
        node::proxy(workdir),
        add_ons::kwok(workdir),
    ];
    if spec.prometheus {
        components.extend([add_ons::discovery(workdir), add_ons::prometheus(workdir)]);
    }
    if spec.network_policies {
        components.push(add_ons::policy_engine(workdir));
    }
    components
}

/// Writes the settings files that the command lines refer to.
///
/// # Errors
/// Names the file that could not be written.
pub(crate) fn write_settings(workdir: &Workdir, spec: &Spec) -> Result<()> {
    let release = spec.kubernetes.release();
    write(workdir, "etc/containerd.toml", &node::containerd_settings(workdir))?;
    write(workdir, "etc/kubelet.yaml", &json(&node::kubelet_settings(workdir, release))?)?;
    write(workdir, "cni/networks/10-pods.conflist", &json(&network::pod_network(workdir))?)?;
    write(workdir, "etc/kwok-stages.yaml", add_ons::STAGES)
}

fn json(value: &Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(value)?)
}

fn write(workdir: &Workdir, below: &str, text: &str) -> Result<()> {
    let path = workdir.path(below);
    path.parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(&path, text))
        .with_context(|| format!("cannot write {}", path.display()))
}

impl Component {
    fn new(workdir: &Workdir, name: &'static str) -> Self {
        Self { name, program: workdir.program(name), arguments: Vec::new(), after: None }
    }

    fn after(mut self, gate: Prerequisite) -> Self {
        self.after = Some(gate);
        self
    }

    /// Adds `--flag=value`.
    fn flag(mut self, flag: &str, value: impl AsRef<str>) -> Self {
        self.arguments.push(format!("--{flag}={}", value.as_ref()).into());
        self
    }

    /// Adds `--flag=` with a path below the cluster's folder.
    fn file(self, flag: &str, workdir: &Workdir, below: &str) -> Self {
        self.flag(flag, workdir.text(below))
    }

    fn gates(self, release: Release) -> Self {
        match release.feature_gates() {
            Some(gates) => self.flag("feature-gates", gates),
            None => self,
        }
    }
}

/// Returns the prerequisite that the API server listens.
fn api_server_is_up() -> Prerequisite {
    let address = format!("{}:{}", crate::addresses::NODE, crate::addresses::API_PORT);
    Prerequisite::Port(address.parse().unwrap_or_else(|_| SocketAddr::from(([127, 0, 0, 1], 0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(kubernetes: &str) -> Spec {
        Spec {
            kubernetes: kubernetes.parse().unwrap(),
            gpus: 2,
            gpu_model: "A100-SXM4-40GB".into(),
            kwok_nodes: 0,
            model_server: None,
            prometheus: true,
            network_policies: true,
            manifests: None,
            bin_dir: "/none".into(),
        }
    }

    fn lines(kubernetes: &str) -> String {
        let workdir = Workdir::of(&"golden".parse().unwrap());
        let mut text = String::new();
        for component in all(&workdir, &spec(kubernetes)) {
            text.push_str(&component.program.display().to_string());
            for argument in &component.arguments {
                text.push_str("\n    ");
                text.push_str(argument.to_str().unwrap());
            }
            text.push('\n');
        }
        text
    }

    /// Compares with a golden file; `SLUICE_BLESS=1` rewrites it.
    fn golden(name: &str, text: &str) {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        if std::env::var_os("SLUICE_BLESS").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
        }
        assert_eq!(text, fs::read_to_string(&path).unwrap_or_default(), "{}", path.display());
    }

    #[test]
    fn the_command_lines_are_these() {
        golden("components-1.37.txt", &lines("1.37"));
    }

    #[test]
    fn an_older_release_differs_by_its_gates_and_their_apis_alone() {
        let gates = "\n    --feature-gates=DRAPartitionableDevices=true,DRAExtendedResource=true,\
                     DRADeviceTaints=true,ResourceHealthStatus=true";
        let older = lines("1.34");
        assert_eq!(older.matches(gates).count(), 3);
        let apis = "\n    --runtime-config=resource.k8s.io/v1alpha3=true";
        assert_eq!(older.matches(apis).count(), 1);
        assert_eq!(older.replace(gates, "").replace(apis, ""), lines("1.37"));
        let workdir = Workdir::of(&"golden".parse().unwrap());
        let kubelet = |minor: &str| node::kubelet_settings(&workdir, spec(minor).kubernetes.release());
        assert_eq!(kubelet("1.34")["featureGates"]["DRAPartitionableDevices"], true);
        assert!(kubelet("1.37").get("featureGates").is_none());
    }

    #[test]
    fn the_settings_files_are_these() {
        let workdir = Workdir::of(&"golden".parse().unwrap());
        golden("containerd.toml", &node::containerd_settings(&workdir));
        let kubelet = node::kubelet_settings(&workdir, spec("1.37").kubernetes.release());
        golden("kubelet.json", &json(&kubelet).unwrap());
    }
}
