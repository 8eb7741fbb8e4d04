//! Settings of the preloader, read from a file, the environment and flags, in rising precedence.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};
use sluice_config::names::SYSTEM_NAMESPACE;
use sluice_inventory::quantity;
use sluice_process::logging::LogFormat;

use crate::inject::MOST_DEADLINE_SECONDS;
use crate::inject::resources::{self, NO_LIMIT};

/// Role of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Answers the webhook; while it leads, it lifts gates.
    Preloader,
    /// Lifts gates that are past their deadline while no preloader leads; nothing else.
    Watchdog,
}

/// Beginning of the text of `--help`.
const ABOUT: &str = "\
Gives opted-in pods (label sluice.dev/inject: enabled) a sidecar that batches their requests and keeps them from
a cold model, and a scheduling gate that holds their placement until a GPU slice of the claimed profile is free.

The API server finds it through the MutatingWebhookConfiguration `sluice-preloader`; its CA and certificate are
made by itself and kept in one Secret. Every replica answers; the one that holds the Lease `sluice-preloader`
lifts gates. It finds the API server as every pod does, or by KUBECONFIG.

Every flag can also stand in the file given by --config (in camelCase: sidecarImage) or in the environment
(SLUICE_PRELOADER_SIDECAR_IMAGE). Flags win over the environment, the environment over the file.";

/// Gives opted-in pods their sidecar and their scheduling gate, and lifts the gate when a slice is free.
#[derive(Debug, Default, Parser, Serialize)]
#[command(name = "sluice-preloader", version, long_about = ABOUT, args_override_self = true)]
#[serde(rename_all = "camelCase")]
pub struct Flags {
    /// YAML file of settings
    #[arg(long, value_name = "FILE", env = "SLUICE_PRELOADER_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,

    /// Role of this process [default: preloader]
    #[arg(long, env = "SLUICE_PRELOADER_MODE")]
    mode: Option<Mode>,

    /// Namespace of the Secret, the Service and the Lease [default: sluice-system]
    #[arg(long, value_name = "NAME", env = "SLUICE_PRELOADER_NAMESPACE")]
    namespace: Option<String>,

    /// Name of this replica, unique among the replicas, such as its pod's [default: the host's name]
    #[arg(long, value_name = "NAME", env = "SLUICE_PRELOADER_IDENTITY")]
    identity: Option<String>,

    /// Address of the webhook [default: 0.0.0.0:9443]
    #[arg(long, value_name = "ADDRESS", env = "SLUICE_PRELOADER_WEBHOOK_LISTEN")]
    webhook_listen: Option<SocketAddr>,

    /// Address of /metrics, /livez and /readyz [default: 127.0.0.1:8085]
    #[arg(long, value_name = "ADDRESS", env = "SLUICE_PRELOADER_ADMIN_LISTEN")]
    admin_listen: Option<SocketAddr>,

    /// Image of the sidecar [default: sluice.dev/sluice-batcher, this version]
    #[arg(long, value_name = "IMAGE", env = "SLUICE_PRELOADER_SIDECAR_IMAGE")]
    sidecar_image: Option<String>,

    /// Secret that injected pods name to pull images with; it must be in their own namespace [default: none]
    #[arg(long, value_name = "NAME", env = "SLUICE_PRELOADER_SIDECAR_PULL_SECRET")]
    sidecar_pull_secret: Option<String>,

    /// CPU that a sidecar requests [default: 50m]
    #[arg(long, value_name = "QUANTITY", env = "SLUICE_PRELOADER_SIDECAR_CPU")]
    sidecar_cpu: Option<String>,

    /// CPU that a sidecar may use in pods whose containers all have such a limit; none: no limit [default: 1]
    #[arg(long, value_name = "QUANTITY", env = "SLUICE_PRELOADER_SIDECAR_CPU_LIMIT")]
    sidecar_cpu_limit: Option<String>,

    /// Memory that a sidecar requests [default: 64Mi]
    #[arg(long, value_name = "QUANTITY", env = "SLUICE_PRELOADER_SIDECAR_MEMORY")]
    sidecar_memory: Option<String>,

    /// Memory that a sidecar may use; none: no limit [default: 1Gi]
    #[arg(long, value_name = "QUANTITY", env = "SLUICE_PRELOADER_SIDECAR_MEMORY_LIMIT")]
    sidecar_memory_limit: Option<String>,

    /// How long requests may take to finish when their pod is terminated [default: 25000]
    #[arg(long, value_name = "MS", env = "SLUICE_PRELOADER_DRAIN_DEADLINE_MS")]
    drain_deadline_ms: Option<u64>,

    /// How long a terminated pod still serves, while clients stop sending to it [default: 2000]
    #[arg(long, value_name = "MS", env = "SLUICE_PRELOADER_PROPAGATION_MS")]
    propagation_ms: Option<u64>,

    /// Age at which a gate is lifted even if no slice is free [default: 300]
    #[arg(long, value_name = "SECONDS", env = "SLUICE_PRELOADER_GATE_DEADLINE_SECONDS")]
    gate_deadline_seconds: Option<u64>,

    /// Format of the log lines [default: text]
    #[arg(long, env = "SLUICE_PRELOADER_LOG_FORMAT")]
    log_format: Option<LogFormat>,

    /// Log filter: error, warn, info, debug, trace, or target=level,… [default: info]
    #[arg(long, value_name = "FILTER", env = "SLUICE_PRELOADER_LOG_LEVEL")]
    log_level: Option<String>,
}

/// All settings of the preloader.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Role of the process.
    pub mode: Mode,
    /// Namespace of the Secret, the Service and the Lease.
    pub namespace: String,
    /// Name of this replica, unique among the replicas; empty: the host's name.
    pub identity: String,
    /// Address of the webhook.
    pub webhook_listen: SocketAddr,
    /// Address of the admin port.
    pub admin_listen: SocketAddr,
    /// Image of the sidecar.
    pub sidecar_image: String,
    /// Secret that injected pods name to pull images with; `None`: none is added.
    pub sidecar_pull_secret: Option<String>,
    /// CPU that a sidecar requests.
    pub sidecar_cpu: String,
    /// CPU that a sidecar may use in pods whose containers all have such a limit; `none`: no limit.
    pub sidecar_cpu_limit: String,
    /// Memory that a sidecar requests.
    pub sidecar_memory: String,
    /// Memory that a sidecar may use; `none`: no limit.
    pub sidecar_memory_limit: String,
    /// Milliseconds that requests may take to finish when their pod is terminated: 0, or 100 to 3,600,000.
    pub drain_deadline_ms: u64,
    /// Milliseconds for which a terminated pod still serves, while clients stop sending to it; at most 3,600,000.
    pub propagation_ms: u64,
    /// Age in seconds at which a gate is lifted even if no slice is free, 1 to 86,400. A pod's annotation wins.
    pub gate_deadline_seconds: u64,
    /// Format of the log lines.
    pub log_format: LogFormat,
    /// Log filter.
    pub log_level: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Preloader,
            namespace: SYSTEM_NAMESPACE.to_owned(),
            identity: String::new(),
            webhook_listen: SocketAddr::from(([0, 0, 0, 0], 9443)),
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 8085)),
            sidecar_image: concat!("sluice.dev/sluice-batcher:", env!("CARGO_PKG_VERSION")).to_owned(),
            sidecar_pull_secret: None,
            sidecar_cpu: "50m".to_owned(),
            sidecar_cpu_limit: "1".to_owned(),
            sidecar_memory: "64Mi".to_owned(),
            // Above the batcher's queueBytes and answerBytes (256 MiB each), which bound what it holds.
            sidecar_memory_limit: "1Gi".to_owned(),
            drain_deadline_ms: 25_000,
            propagation_ms: 2_000,
            gate_deadline_seconds: 300,
            log_format: LogFormat::Text,
            log_level: "info".to_owned(),
        }
    }
}

impl Settings {
    /// Takes an identity that is not set from the host's name, and checks all values.
    ///
    /// # Errors
    /// Names the first setting that is not valid, and what is allowed.
    pub fn checked(mut self) -> Result<Self, String> {
        if self.identity.is_empty() {
            // In a pod the host's name is the pod's.
            self.identity = std::fs::read_to_string("/proc/sys/kernel/hostname")
                .map_err(|error| {
                    format!("identity: is not set, and the host's name cannot be read: {error}")
                })?
                .trim()
                .to_owned();
        }
        for (name, value) in [
            ("namespace", &self.namespace),
            ("identity", &self.identity),
            ("sidecarImage", &self.sidecar_image),
        ] {
            if value.is_empty() {
                return Err(format!("{name}: must not be empty"));
            }
        }
        if let Some(name) = &self.sidecar_pull_secret
            && !is_object_name(name)
        {
            return Err(format!(
                "sidecarPullSecret: {name:?} is not the name of a Secret (at most 253 of a-z, 0-9, - and ., with a \
                 letter or digit at both ends of each part between dots); leave it out to name none"
            ));
        }
        for (name, request, limit) in [
            ("sidecarCpu", &self.sidecar_cpu, &self.sidecar_cpu_limit),
            ("sidecarMemory", &self.sidecar_memory, &self.sidecar_memory_limit),
        ] {
            if !resources::is_positive(request) {
                return Err(format!("{name}: {request:?} is no quantity above 0, such as 250m or 512Mi"));
            }
            if limit == NO_LIMIT {
                continue;
            }
            if !resources::is_positive(limit) {
                return Err(format!("{name}Limit: {limit:?} is no quantity above 0, nor {NO_LIMIT:?}"));
            }
            if quantity::nano(limit) < quantity::nano(request) {
                return Err(format!("{name}Limit: {limit} is less than {name}, {request}"));
            }
        }
        if !(1..=MOST_DEADLINE_SECONDS).contains(&self.gate_deadline_seconds) {
            return Err(format!(
                "gateDeadlineSeconds: {} is not between 1 and {MOST_DEADLINE_SECONDS} (a day)",
                self.gate_deadline_seconds
            ));
        }
        if (1..100).contains(&self.drain_deadline_ms) {
            return Err(format!(
                "drainDeadlineMs: {0} milliseconds are less than any request takes; did you mean {0}000 ({0} s)?",
                self.drain_deadline_ms
            ));
        }
        if self.webhook_listen == self.admin_listen {
            return Err(format!("adminListen: {} is webhookListen already", self.admin_listen));
        }
        for (name, value) in
            [("drainDeadlineMs", self.drain_deadline_ms), ("propagationMs", self.propagation_ms)]
        {
            if value > 3_600_000 {
                return Err(format!("{name}: {value} is more than an hour (3600000)"));
            }
        }
        Ok(self)
    }

    /// Returns the age at which a gate is lifted even if no slice is free.
    pub fn gate_deadline(&self) -> Duration {
        Duration::from_secs(self.gate_deadline_seconds)
    }
}

/// Returns whether this is a valid name of a Secret. The API server would refuse every pod that names an invalid one.
fn is_object_name(name: &str) -> bool {
    let is_end =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let is_part = |part: &str| {
        let part = part.as_bytes();
        let fits = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
        is_end(part.first()) && is_end(part.last()) && part.iter().all(fits)
    };
    name.len() <= 253 && name.split('.').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_a_replica_has_a_name() {
        let settings = Settings::default().checked().unwrap();
        assert!(!settings.identity.is_empty());
        assert_eq!(settings.namespace, "sluice-system");
    }

    #[test]
    fn a_setting_out_of_range_is_refused_by_name() {
        let error = Settings { gate_deadline_seconds: 0, ..Settings::default() }.checked().unwrap_err();
        assert!(error.starts_with("gateDeadlineSeconds"), "{error}");
        let error = Settings { sidecar_image: String::new(), ..Settings::default() }.checked().unwrap_err();
        assert!(error.starts_with("sidecarImage"), "{error}");
        let error =
            Settings { sidecar_cpu: "a lot".to_owned(), ..Settings::default() }.checked().unwrap_err();
        assert!(error.starts_with("sidecarCpu: \"a lot\""), "{error}");
        let error =
            Settings { sidecar_cpu_limit: String::new(), ..Settings::default() }.checked().unwrap_err();
        assert!(error.starts_with("sidecarCpuLimit: \"\""), "{error}");
        let error = Settings { sidecar_memory_limit: "32Mi".to_owned(), ..Settings::default() }
            .checked()
            .unwrap_err();
        assert!(error.starts_with("sidecarMemoryLimit: 32Mi is less than"), "{error}");
        let unlimited = Settings { sidecar_memory_limit: "none".to_owned(), ..Settings::default() };
        assert!(unlimited.checked().is_ok());
        let error = Settings { gate_deadline_seconds: 300_000, ..Settings::default() }.checked().unwrap_err();
        assert!(error.contains("not between 1 and 86400"), "{error}");
        let error = Settings { drain_deadline_ms: 25, ..Settings::default() }.checked().unwrap_err();
        assert!(error.contains("did you mean 25000 (25 s)?"), "{error}");
        let admin_listen = Settings::default().webhook_listen;
        assert!(Settings { admin_listen, ..Settings::default() }.checked().is_err());
    }

    #[test]
    fn a_pull_secret_is_the_name_of_a_secret() {
        let with =
            |name: &str| Settings { sidecar_pull_secret: Some(name.to_owned()), ..Settings::default() };
        assert!(with("team.registry-1").checked().is_ok());
        for wrong in ["", "Registry", "a_b", "-a", "a-", "a..b", "a/b", &"a".repeat(254)] {
            let error = with(wrong).checked().unwrap_err();
            assert!(error.starts_with("sidecarPullSecret"), "{error}");
        }
    }
}
