//! The kubelet plugin protocols that sluice-driver serves and the local platform calls.
//!
//! Both are gRPC over unix sockets. The plugin is the server of both: the kubelet notices a socket
//! in [`registration_socket`]'s directory, asks it for [`registration::v1::PluginInfo`], and then
//! calls [`dra::v1`] on the endpoint that the answer names. The modules hold what tonic generates,
//! for both sides; the functions and constants here are the agreements that no .proto can say.

use std::path::{Path, PathBuf};

/// Plugin registration, by which the kubelet learns of a plugin.
pub mod registration {
    /// Version 1 of the protocol: wire package `pluginregistration`.
    #[allow(missing_docs, clippy::unwrap_used)]
    pub mod v1 {
        tonic::include_proto!("pluginregistration");
    }
}

/// Dynamic Resource Allocation, by which the kubelet asks for devices.
pub mod dra {
    /// Version 1 of the protocol (Kubernetes 1.34 and newer): wire package
    /// `k8s.io.kubelet.pkg.apis.dra.v1`.
    #[allow(missing_docs, clippy::unwrap_used)]
    pub mod v1 {
        tonic::include_proto!("k8s.io.kubelet.pkg.apis.dra.v1");
    }
}

/// `PluginInfo.type` of a DRA driver.
pub const DRA_PLUGIN_TYPE: &str = "DRAPlugin";

/// Name of the [`dra::v1`] service in `PluginInfo.supported_versions`: the short name, not the
/// package of the gRPC path.
pub const DRA_V1_SERVICE: &str = "v1.DRAPlugin";

/// Where the kubelet keeps its plugins unless its `--root-dir` says otherwise.
pub const DEFAULT_KUBELET_DIR: &str = "/var/lib/kubelet";

/// Time after which the kubelet gives up on one DRA call, in seconds.
pub const CALL_TIMEOUT_SECONDS: u64 = 45;

/// The longest path that a unix socket can be bound to, in bytes (`sun_path` is 108 bytes on
/// Linux with its terminating zero).
pub const SOCKET_PATH_LIMIT_BYTES: usize = 107;

/// The socket on which a driver answers registration: `<kubelet_dir>/plugins_registry/<driver>-reg.sock`.
#[must_use]
pub fn registration_socket(kubelet_dir: &Path, driver: &str) -> PathBuf {
    kubelet_dir.join("plugins_registry").join(format!("{driver}-reg.sock"))
}

/// The socket on which a driver serves DRA: `<kubelet_dir>/plugins/<driver>/dra.sock`.
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
