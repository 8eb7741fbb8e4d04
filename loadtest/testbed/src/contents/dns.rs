//! CoreDNS in the cluster: a Deployment, and the Service whose address the kubelet gives to pods.

use anyhow::Result;

use crate::addresses::{CLUSTER_DOMAIN, DNS_SERVICE};
use crate::cluster::Cluster;
use crate::images::COREDNS;

/// Installs CoreDNS into the cluster.
///
/// # Errors
/// When the API server rejects it.
pub(crate) async fn install(cluster: &Cluster) -> Result<()> {
    cluster.apply(&manifest()).await
}

fn manifest() -> String {
    include_str!("../../manifests/coredns.yaml")
        .replace("CLUSTER_DOMAIN", CLUSTER_DOMAIN)
        .replace("DNS_SERVICE", DNS_SERVICE)
        .replace("IMAGE", COREDNS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_service_has_the_address_that_pods_are_given() {
        let manifest = manifest();
        assert!(manifest.contains("clusterIP: 198.18.32.10"));
        assert!(manifest.contains("image: localhost/coredns:1"));
        assert!(manifest.contains("kubernetes cluster.local in-addr.arpa {"));
    }
}
