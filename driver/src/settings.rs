//! Settings from file, environment and flags, in rising precedence.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};
use sluice_inventory::SliceLayout;
use sluice_kubelet_api::DEFAULT_KUBELET_DIR;
use sluice_process::logging::LogFormat;

use crate::cdi::Majors;

/// Layout of ResourceSlices that the user chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SliceForm {
    /// Layout that the version of the API server asks for.
    Auto,
    /// Kubernetes 1.34: counters and devices in one slice.
    Combined,
    /// Kubernetes 1.35 and newer: counters and devices in separate slices.
    Split,
}

impl SliceForm {
    /// Returns the chosen layout; `None` if the store decides.
    pub fn fixed(self) -> Option<SliceLayout> {
        match self {
            Self::Auto => None,
            Self::Combined => Some(SliceLayout::Combined),
            Self::Split => Some(SliceLayout::Split),
        }
    }
}

/// Text at the beginning of `--help`.
const ABOUT: &str = "\
Cuts this node's NVIDIA GPUs into MIG slices on demand, as a DRA kubelet plugin.

It publishes every full GPU and every MIG placement of the node as a device of driver gpu.sluice.dev.
When a claim is allocated one and the kubelet (or the local platform of sluice-autoscaler) asks for
it, it creates the MIG instance, writes a CDI file for the container runtime, and takes both back
afterwards. MIG instances that it has not created are never touched.

In a cluster it finds the API server as every pod does, or by KUBECONFIG. On one machine without
Kubernetes, the objects lie in a directory:

    sluice-driver --store /var/lib/sluice/objects --node-name \"$(hostname)\"

Every flag can also stand in the file given by --config (in camelCase: driverRoot) or in the
environment (SLUICE_DRIVER_DRIVER_ROOT). Flags win over the environment, the environment over the file.";

/// Cuts this node's NVIDIA GPUs into MIG slices on demand, as a DRA kubelet plugin.
#[derive(Debug, Default, Parser, Serialize)]
#[command(name = "sluice-driver", version, long_about = ABOUT, args_override_self = true)]
#[serde(rename_all = "camelCase")]
pub struct Flags {
    /// YAML file of settings
    #[arg(long, value_name = "FILE", env = "SLUICE_DRIVER_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,

    /// Root below which libnvidia-ml.so.1 lies: / for a driver on the host, /run/nvidia/driver for
    /// NVIDIA's driver container [default: /]
    #[arg(long, value_name = "DIR", env = "SLUICE_DRIVER_DRIVER_ROOT")]
    driver_root: Option<PathBuf>,

    /// The same root as container runtimes see it, where this runs in a container [default: as --driver-root]
    #[arg(long, value_name = "DIR", env = "SLUICE_DRIVER_DRIVER_ROOT_ON_HOST")]
    driver_root_on_host: Option<PathBuf>,

    /// Whether containers get NVIDIA's libraries and nvidia-smi of the driver root [default: true]
    #[arg(long, value_name = "BOOL", env = "SLUICE_DRIVER_MOUNT_LIBRARIES")]
    mount_libraries: Option<bool>,

    /// Directory of Kubernetes objects that stands in for the API server on one machine [default: the
    /// API server of the cluster that this runs in, or of KUBECONFIG]
    #[arg(long, value_name = "DIR", env = "SLUICE_DRIVER_STORE")]
    store: Option<PathBuf>,

    /// Directory whose plugins/ and plugins_registry/ hold the sockets [default: /var/lib/kubelet]
    #[arg(long, value_name = "DIR", env = "SLUICE_DRIVER_KUBELET_DIR")]
    kubelet_dir: Option<PathBuf>,

    /// Directory of CDI files that container runtimes read [default: /var/run/cdi]
    #[arg(long, value_name = "DIR", env = "SLUICE_DRIVER_CDI_DIR")]
    cdi_dir: Option<PathBuf>,

    /// Directory of the checkpoint; must outlive the process [default: /var/lib/sluice/driver]
    #[arg(long, value_name = "DIR", env = "SLUICE_DRIVER_STATE_DIR")]
    state_dir: Option<PathBuf>,

    /// Name of this node's Node object; its pool is `<node>/gpu` [default: the host's name]
    #[arg(long, value_name = "NAME", env = "SLUICE_DRIVER_NODE_NAME")]
    node_name: Option<String>,

    /// Form of the ResourceSlices [default: auto, by the version of the API server]
    #[arg(long, env = "SLUICE_DRIVER_SLICE_FORM")]
    slice_form: Option<SliceForm>,

    /// Seconds between looks for claims that are gone [default: 30]
    #[arg(long, value_name = "SECONDS", env = "SLUICE_DRIVER_RECONCILE_INTERVAL_SECONDS")]
    reconcile_interval_seconds: Option<u64>,

    /// Seconds between looks at the GPUs [default: 5]
    #[arg(long, value_name = "SECONDS", env = "SLUICE_DRIVER_HEALTH_INTERVAL_SECONDS")]
    health_interval_seconds: Option<u64>,

    /// Address of /metrics, /livez and /readyz [default: 127.0.0.1:8093]
    #[arg(long, value_name = "ADDRESS", env = "SLUICE_DRIVER_ADMIN_LISTEN")]
    admin_listen: Option<SocketAddr>,

    /// Form of the log lines [default: text]
    #[arg(long, env = "SLUICE_DRIVER_LOG_FORMAT")]
    log_format: Option<LogFormat>,

    /// Log filter: error, warn, info, debug, trace, or target=level,… [default: info]
    #[arg(long, value_name = "FILTER", env = "SLUICE_DRIVER_LOG_LEVEL")]
    log_level: Option<String>,
}

/// Settings of the driver.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Root of the NVIDIA driver's files, below which libnvidia-ml.so.1 lies.
    pub driver_root: PathBuf,
    /// The same root as container runtimes see it; `None` if it is the same path.
    pub driver_root_on_host: Option<PathBuf>,
    /// Whether containers get NVIDIA's libraries and tools from the driver root.
    pub mount_libraries: bool,
    /// Directory of Kubernetes objects; `None` for the API server.
    pub store: Option<PathBuf>,
    /// Directory of the kubelet, which holds the sockets.
    pub kubelet_dir: PathBuf,
    /// Directory of CDI files.
    pub cdi_dir: PathBuf,
    /// Directory of the checkpoint.
    pub state_dir: PathBuf,
    /// Name of the Node object; the host's name if it is empty.
    pub node_name: String,
    /// Layout of the ResourceSlices.
    pub slice_form: SliceForm,
    /// Seconds between two reconciliations of claims.
    pub reconcile_interval_seconds: u64,
    /// Seconds between two checks of the GPUs.
    pub health_interval_seconds: u64,
    /// Major numbers of device nodes that /proc/devices does not list. Only in the file.
    pub device_majors: Majors,
    /// Address of the admin port.
    pub admin_listen: SocketAddr,
    /// Format of the log.
    pub log_format: LogFormat,
    /// Filter of the log.
    pub log_level: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            driver_root: "/".into(),
            driver_root_on_host: None,
            mount_libraries: true,
            store: None,
            kubelet_dir: DEFAULT_KUBELET_DIR.into(),
            cdi_dir: "/var/run/cdi".into(),
            state_dir: "/var/lib/sluice/driver".into(),
            node_name: String::new(),
            slice_form: SliceForm::Auto,
            reconcile_interval_seconds: 30,
            health_interval_seconds: 5,
            device_majors: Majors::default(),
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 8093)),
            log_format: LogFormat::Text,
            log_level: "info".to_owned(),
        }
    }
}

impl Settings {
    /// Checks what serde cannot check, and fills in the host's name.
    ///
    /// # Errors
    /// Names the setting, what is wrong, and which values are allowed.
    pub fn checked(mut self) -> Result<Self, String> {
        for (name, seconds, most) in [
            ("reconcileIntervalSeconds", self.reconcile_interval_seconds, 3600),
            ("healthIntervalSeconds", self.health_interval_seconds, 3600),
        ] {
            if !(1..=most).contains(&seconds) {
                return Err(format!("{name} is {seconds}: give 1 to {most} seconds"));
            }
        }
        if self.node_name.is_empty() {
            let host = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
            self.node_name = host;
        }
        // Container runtimes use the path of a mount as it is.
        let on_host = self.driver_root_on_host.as_ref().unwrap_or(&self.driver_root);
        let absolute = std::path::absolute(on_host);
        self.driver_root_on_host =
            Some(absolute.map_err(|error| format!("driverRootOnHost {}: {error}", on_host.display()))?);
        if !self.kubelet_dir.is_absolute() {
            // The kubelet uses the path of an endpoint as it is.
            self.kubelet_dir = std::path::absolute(&self.kubelet_dir)
                .map_err(|error| format!("kubeletDir {}: {error}", self.kubelet_dir.display()))?;
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_flag_is_a_setting_of_the_same_name() {
        let flags = [
            "sluice-driver",
            "--driver-root",
            "/r",
            "--driver-root-on-host",
            "/h",
            "--mount-libraries",
            "false",
            "--store",
            "/s",
            "--kubelet-dir",
            "/k",
            "--cdi-dir",
            "/c",
            "--state-dir",
            "/t",
            "--node-name",
            "n",
            "--slice-form",
            "combined",
            "--reconcile-interval-seconds",
            "5",
            "--health-interval-seconds",
            "7",
            "--admin-listen",
            "127.0.0.1:1",
            "--log-format",
            "json",
            "--log-level",
            "debug",
        ];
        Flags::command().debug_assert();
        let loaded: Settings = sluice_process::settings::load(None, &Flags::parse_from(flags)).unwrap();
        let expected = Settings {
            driver_root: "/r".into(),
            driver_root_on_host: Some("/h".into()),
            mount_libraries: false,
            store: Some("/s".into()),
            kubelet_dir: "/k".into(),
            cdi_dir: "/c".into(),
            state_dir: "/t".into(),
            node_name: "n".to_owned(),
            slice_form: SliceForm::Combined,
            reconcile_interval_seconds: 5,
            health_interval_seconds: 7,
            device_majors: Majors::default(),
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 1)),
            log_format: LogFormat::Json,
            log_level: "debug".to_owned(),
        };
        assert_eq!(loaded, expected);
    }

    #[test]
    fn settings_that_cannot_work_are_refused_by_name() {
        let interval = Settings { reconcile_interval_seconds: 0, ..Settings::default() };
        assert!(interval.checked().unwrap_err().contains("reconcileIntervalSeconds"));
        let interval = Settings { health_interval_seconds: 0, ..Settings::default() };
        assert!(interval.checked().unwrap_err().contains("healthIntervalSeconds"));
        let milliseconds = Settings { health_interval_seconds: 5000, ..Settings::default() };
        assert_eq!(
            milliseconds.checked().unwrap_err(),
            "healthIntervalSeconds is 5000: give 1 to 3600 seconds"
        );
        assert!(!Settings::default().checked().unwrap().node_name.is_empty());
    }
}
