//! Addresses inside a cluster's network namespace: all of 198.18.0.0/15, the range for benchmarks, which no
//! network in use has. Every cluster has the same ones, since each has a network of its own.

/// The node, the API server, and everything on the host network.
pub(crate) const NODE: &str = "198.18.0.1";
/// Pods of the node.
pub(crate) const PODS: &str = "198.18.16.0/20";
/// Services.
pub(crate) const SERVICES: &str = "198.18.32.0/20";
/// The `kubernetes` Service: the first of [`SERVICES`].
pub(crate) const KUBERNETES_SERVICE: &str = "198.18.32.1";
/// The cluster's DNS Service.
pub(crate) const DNS_SERVICE: &str = "198.18.32.10";
/// Addresses of pods on simulated nodes; no process listens there.
pub(crate) const FAKE_PODS: &str = "198.19.0.0/16";
/// Address of every simulated node; no process listens there.
pub(crate) const FAKE_NODE: &str = "198.18.48.1";
/// Domain of Services.
pub(crate) const CLUSTER_DOMAIN: &str = "cluster.local";
/// Port of the API server.
pub(crate) const API_PORT: u16 = 6443;
/// Port of Prometheus, on [`NODE`].
pub(crate) const PROMETHEUS_PORT: u16 = 9090;

/// The API server's address.
pub(crate) fn api_server() -> String {
    format!("https://{NODE}:{API_PORT}")
}
