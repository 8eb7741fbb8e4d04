//! containerd, kubelet, kube-proxy.

use serde_json::{Map, Value, json};

use crate::addresses::{CLUSTER_DOMAIN, DNS_SERVICE, NODE, PODS};
use crate::images::PAUSE;
use crate::release::Release;
use crate::workdir::Workdir;

use super::{Component, NODE_NAME, Prerequisite, api_server_is_up};

pub(super) fn containerd(workdir: &Workdir) -> Component {
    let mut component = Component::new(workdir, "containerd");
    component.arguments = vec!["--config".into(), workdir.path("etc/containerd.toml").into()];
    component
}

pub(super) fn kubelet(workdir: &Workdir) -> Component {
    Component::new(workdir, "kubelet")
        .after(Prerequisite::Socket(workdir.path("containerd.sock")))
        .file("config", workdir, "etc/kubelet.yaml")
        .file("kubeconfig", workdir, "etc/kubelet.kubeconfig")
        .flag("root-dir", "/var/lib/kubelet")
        .flag("hostname-override", NODE_NAME)
        .flag("node-ip", NODE)
        .flag("v", "2")
}

pub(super) fn proxy(workdir: &Workdir) -> Component {
    Component::new(workdir, "kube-proxy")
        .after(api_server_is_up())
        .file("kubeconfig", workdir, "etc/proxy.kubeconfig")
        .flag("proxy-mode", "nftables")
        .flag("hostname-override", NODE_NAME)
        .flag("cluster-cidr", PODS)
        // These settings belong to the whole machine.
        .flag("conntrack-max-per-core", "0")
        .flag("conntrack-tcp-timeout-established", "0")
        .flag("conntrack-tcp-timeout-close-wait", "0")
}

/// YAML takes JSON.
pub(super) fn kubelet_settings(workdir: &Workdir, release: Release) -> Value {
    let mut settings = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE,
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": workdir.path("pki/ca.crt") },
        },
        "authorization": { "mode": "Webhook" },
        "tlsCertFile": workdir.path("pki/kubelet.crt"),
        "tlsPrivateKeyFile": workdir.path("pki/kubelet.key"),
        "containerRuntimeEndpoint": format!("unix://{}", workdir.text("containerd.sock")),
        "cgroupDriver": "cgroupfs",
        // Its own, so that clusters live side by side and what is left over is found.
        "cgroupRoot": workdir.cgroup_root(),
        "failCgroupV1": false,
        "enforceNodeAllocatable": [],
        "failSwapOn": false,
        // Lowering it needs a capability that root in a container may lack.
        "oomScoreAdj": 0,
        "evictionHard": {
            "nodefs.available": "1%",
            "imagefs.available": "1%",
            "memory.available": "50Mi",
        },
        // Images come from here alone: what is collected would never come back.
        "imageGCHighThresholdPercent": 100,
        "clusterDomain": CLUSTER_DOMAIN,
        "clusterDNS": [DNS_SERVICE],
        "resolvConf": "",
        "podLogsDir": workdir.path("pods"),
        "volumePluginDir": workdir.path("volume-plugins"),
        "maxPods": 250,
    });
    if !release.gates.is_empty() {
        let gates: Map<String, Value> =
            release.gates.iter().map(|gate| ((*gate).to_owned(), Value::Bool(true))).collect();
        settings["featureGates"] = Value::Object(gates);
    }
    settings
}

pub(super) fn containerd_settings(workdir: &Workdir) -> String {
    let root = workdir.root().display();
    format!(
        r#"version = 3
root = "{root}/containerd/root"
state = "{root}/containerd/state"

[grpc]
  address = "{root}/containerd.sock"

[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "{PAUSE}"

[plugins.'io.containerd.cri.v1.runtime']
  enable_cdi = true
  # Lowering it below the parent's needs a capability that root in a container may lack.
  restrict_oom_score_adj = true
  cdi_spec_dirs = ["/etc/cdi", "/var/run/cdi"]
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["{root}/bin/cni"]
    conf_dir = "{root}/cni/networks"
  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = "runc"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
        BinaryName = "{root}/bin/runc"
"#
    )
}
