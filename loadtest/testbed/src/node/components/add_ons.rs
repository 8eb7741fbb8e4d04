//! KWOK, Prometheus and the policy engine. They run beside the cluster's own components, as administrator.

use crate::addresses::{FAKE_NODE, FAKE_PODS, NODE, PROMETHEUS_PORT, SERVICES};
use crate::workdir::Workdir;

use super::{Component, NODE_NAME, api_server_is_up};

/// Annotation of simulated nodes. KWOK manages the nodes that have it, and no others.
pub(crate) const SIMULATED_NODE: &str = "kwok.x-k8s.io/node";
/// Selector of [`SIMULATED_NODE`].
const SIMULATED_NODE_SELECTOR: &str = "kwok.x-k8s.io/node=fake";
/// Settings of KWOK: how simulated nodes and their pods change their status.
pub(super) const STAGES: &str = include_str!("../../../manifests/kwok-stages.yaml");

/// Returns KWOK, which acts as kubelet of the simulated nodes only.
pub(super) fn kwok(workdir: &Workdir) -> Component {
    Component::new(workdir, "kwok")
        .after(api_server_is_up())
        .file("kubeconfig", workdir, "etc/admin.kubeconfig")
        .file("config", workdir, "etc/kwok-stages.yaml")
        .flag("manage-all-nodes", "false")
        .flag("manage-nodes-with-annotation-selector", SIMULATED_NODE_SELECTOR)
        .flag("cidr", FAKE_PODS)
        .flag("node-ip", FAKE_NODE)
        .flag("node-lease-duration-seconds", "40")
}

/// Returns the process that writes the pods' addresses to a file for Prometheus.
pub(super) fn discovery(workdir: &Workdir) -> Component {
    let mut component = Component::new(workdir, "discovery").after(api_server_is_up());
    component.program = workdir.program("sluice-testbed");
    component.arguments = vec!["--name".into(), workdir.name().to_string().into(), "discover".into()];
    component
}

/// Returns Debian's Prometheus, found through PATH.
pub(super) fn prometheus(workdir: &Workdir) -> Component {
    Component::new(workdir, "prometheus")
        .after(api_server_is_up())
        .file("config.file", workdir, "etc/prometheus.yaml")
        .file("storage.tsdb.path", workdir, "prometheus")
        .flag("web.listen-address", format!("{NODE}:{PROMETHEUS_PORT}"))
}

/// Returns the policy engine. It enforces NetworkPolicies by iptables rules, which also apply between pods on one bridge.
pub(super) fn policy_engine(workdir: &Workdir) -> Component {
    Component::new(workdir, "kube-router")
        .after(api_server_is_up())
        .file("kubeconfig", workdir, "etc/admin.kubeconfig")
        .flag("hostname-override", NODE_NAME)
        .flag("run-firewall", "true")
        .flag("run-router", "false")
        .flag("run-service-proxy", "false")
        .flag("enable-cni", "false")
        .flag("service-cluster-ip-range", SERVICES)
        .flag("health-port", "0")
}
