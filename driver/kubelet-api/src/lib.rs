//! Kubelet plugin protocols that sluice-driver serves and the local platform calls.
//!
//! Both are gRPC over Unix sockets, and the plugin is the server of both. The kubelet notices a socket in the
//! directory of [`registration_socket`], requests [`registration::v1::PluginInfo`] from it, and then calls
//! [`dra::v1`] on the endpoint named there. The modules hold what tonic generates for both sides; the functions and
//! constants here are agreements that a .proto file cannot express.

use std::path::{Path, PathBuf};

/// Plugin registration, by which the kubelet discovers a plugin.
pub mod registration {
    /// Version 1 of the protocol: wire package `pluginregistration`.
    #[allow(missing_docs, clippy::unwrap_used)]
    pub mod v1 {
        tonic::include_proto!("pluginregistration");
    }
}

/// Dynamic Resource Allocation, by which the kubelet requests devices.
pub mod dra {
    /// Version 1 of the protocol (Kubernetes 1.34 and newer): wire package
    /// `k8s.io.kubelet.pkg.apis.dra.v1`.
    #[allow(missing_docs, clippy::unwrap_used)]
    pub mod v1 {
        tonic::include_proto!("k8s.io.kubelet.pkg.apis.dra.v1");
    }
}

/// Type of a DRA driver in `PluginInfo.type`.
pub const DRA_PLUGIN_TYPE: &str = "DRAPlugin";

/// Name of the [`dra::v1`] service in `PluginInfo.supported_versions`: the short name, not the package of the gRPC
/// path.
pub const DRA_V1_SERVICE: &str = "v1.DRAPlugin";

/// Default directory of the kubelet (its flag `--root-dir`).
pub const DEFAULT_KUBELET_DIR: &str = "/var/lib/kubelet";

/// Time limit of one DRA call of the kubelet, in seconds.
pub const CALL_TIMEOUT_SECONDS: u64 = 45;

/// Maximum length of the path of a Unix socket in bytes (`sun_path` has 108 bytes on Linux, with the terminating
/// zero).
pub const SOCKET_PATH_LIMIT_BYTES: usize = 107;

/// Returns the path of a driver's registration socket: `<kubelet_dir>/plugins_registry/<driver>-reg.sock`.
#[must_use]
pub fn registration_socket(kubelet_dir: &Path, driver: &str) -> PathBuf {
    kubelet_dir.join("plugins_registry").join(format!("{driver}-reg.sock"))
}

/// Returns the path of a driver's DRA socket: `<kubelet_dir>/plugins/<driver>/dra.sock`.
#[must_use]
pub fn dra_socket(kubelet_dir: &Path, driver: &str) -> PathBuf {
    kubelet_dir.join("plugins").join(driver).join("dra.sock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_where_the_kubelet_looks() {
        let dir = Path::new(DEFAULT_KUBELET_DIR);
        assert_eq!(
            registration_socket(dir, "gpu.sluice.dev"),
            Path::new("/var/lib/kubelet/plugins_registry/gpu.sluice.dev-reg.sock")
        );
        assert_eq!(
            dra_socket(dir, "gpu.sluice.dev"),
            Path::new("/var/lib/kubelet/plugins/gpu.sluice.dev/dra.sock")
        );
    }
}
