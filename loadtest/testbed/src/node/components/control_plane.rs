//! etcd, API server, controller manager, scheduler.

use crate::addresses::{API_PORT, NODE, PODS, SERVICES};
use crate::release::Release;
use crate::workdir::Workdir;

use super::{Component, ETCD, Prerequisite, api_server_is_up};

pub(super) fn etcd(workdir: &Workdir) -> Component {
    let url = format!("http://{ETCD}");
    Component::new(workdir, "etcd")
        .file("data-dir", workdir, "etcd")
        .flag("listen-client-urls", &url)
        .flag("advertise-client-urls", &url)
        .flag("listen-peer-urls", "http://127.0.0.1:2380")
        // Data lost by a power cut does not matter: the next `up` creates everything again.
        .flag("unsafe-no-fsync", "true")
}

pub(super) fn api_server(workdir: &Workdir, release: Release) -> Component {
    let component = Component::new(workdir, "kube-apiserver")
        .after(Prerequisite::Port(ETCD.parse().unwrap_or_else(|_| ([127, 0, 0, 1], 2379).into())))
        .flag("etcd-servers", format!("http://{ETCD}"))
        .flag("bind-address", "0.0.0.0")
        .flag("secure-port", API_PORT.to_string())
        .flag("advertise-address", NODE)
        .file("tls-cert-file", workdir, "pki/apiserver.crt")
        .file("tls-private-key-file", workdir, "pki/apiserver.key")
        .file("client-ca-file", workdir, "pki/ca.crt")
        .file("kubelet-certificate-authority", workdir, "pki/ca.crt")
        .file("kubelet-client-certificate", workdir, "pki/apiserver-to-kubelet.crt")
        .file("kubelet-client-key", workdir, "pki/apiserver-to-kubelet.key")
        // No DNS resolves the node's name.
        .flag("kubelet-preferred-address-types", "InternalIP")
        .flag("service-account-issuer", "https://kubernetes.default.svc")
        .file("service-account-key-file", workdir, "pki/accounts.pub")
        .file("service-account-signing-key-file", workdir, "pki/accounts.key")
        .flag("service-cluster-ip-range", SERVICES)
        .flag("authorization-mode", "Node,RBAC")
        .flag("enable-admission-plugins", "NodeRestriction")
        .flag("allow-privileged", "true")
        .gates(release);
    match release.apis {
        Some(apis) => component.flag("runtime-config", apis),
        None => component,
    }
}

pub(super) fn controller_manager(workdir: &Workdir, release: Release) -> Component {
    Component::new(workdir, "kube-controller-manager")
        .after(api_server_is_up())
        .flag("bind-address", "127.0.0.1")
        .file("kubeconfig", workdir, "etc/controller-manager.kubeconfig")
        .file("service-account-private-key-file", workdir, "pki/accounts.key")
        .file("root-ca-file", workdir, "pki/ca.crt")
        .file("cluster-signing-cert-file", workdir, "pki/ca.crt")
        .file("cluster-signing-key-file", workdir, "pki/ca.key")
        .flag("use-service-account-credentials", "true")
        .flag("cluster-cidr", PODS)
        // Pods get addresses from the node's own range, so that the number of simulated nodes does not matter.
        .flag("allocate-node-cidrs", "false")
        .flag("leader-elect", "false")
        .gates(release)
}

pub(super) fn scheduler(workdir: &Workdir, release: Release) -> Component {
    Component::new(workdir, "kube-scheduler")
        .after(api_server_is_up())
        .flag("bind-address", "127.0.0.1")
        .file("kubeconfig", workdir, "etc/scheduler.kubeconfig")
        .flag("leader-elect", "false")
        .gates(release)
}
