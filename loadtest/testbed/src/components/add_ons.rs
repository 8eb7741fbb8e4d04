//! KWOK and Prometheus: they run beside the cluster's own components, as an administrator's programs.

use crate::addresses::{FAKE_NODE, FAKE_PODS, NODE, PROMETHEUS_PORT};
use crate::fake_nodes;
use crate::workdir::Workdir;

use super::{Component, api_server_is_up};

/// Plays the kubelet of the simulated nodes, and of no other.
pub(super) fn kwok(workdir: &Workdir) -> Component {
    Component::new(workdir, "kwok")
        .after(api_server_is_up())
        .file("kubeconfig", workdir, "etc/admin.kubeconfig")
        .file("config", workdir, "etc/kwok-stages.yaml")
        .flag("manage-all-nodes", "false")
        .flag("manage-nodes-with-annotation-selector", fake_nodes::ANNOTATION_SELECTOR)
        .flag("cidr", FAKE_PODS)
        .flag("node-ip", FAKE_NODE)
        .flag("node-lease-duration-seconds", "40")
}

/// Tells Prometheus where the pods are.
pub(super) fn discovery(workdir: &Workdir) -> Component {
    let mut component = Component::new(workdir, "discovery").after(api_server_is_up());
    component.program = workdir.program("sluice-testbed");
    component.arguments = vec!["--name".into(), workdir.name().to_string().into(), "discover".into()];
    component
}

/// Debian's Prometheus, found through PATH.
pub(super) fn prometheus(workdir: &Workdir) -> Component {
    Component::new(workdir, "prometheus")
        .after(api_server_is_up())
        .file("config.file", workdir, "etc/prometheus.yaml")
        .file("storage.tsdb.path", workdir, "prometheus")
        .flag("web.listen-address", format!("{NODE}:{PROMETHEUS_PORT}"))
}
