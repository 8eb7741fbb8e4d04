//! Settings of the autoscaler: file, environment and flags, in Sluice's common precedence.

use anyhow::anyhow;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use sluice_config::names;
use sluice_process::logging::LogFormat;
use sluice_scaling_policy::Windows;

use crate::controller::Timing;
use crate::signals::check_url;

/// Where replicas live.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlatformKind {
    /// Processes on this machine.
    #[default]
    Local,
    /// Pods of a cluster.
    Kubernetes,
}

/// What happens to the replicas when the autoscaler is told to stop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnExit {
    /// They are drained and stopped, and their slices are given back.
    #[default]
    Stop,
    /// They live on; the next autoscaler with the same state directory adopts them.
    Keep,
}

/// All settings, complete.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Where replicas live.
    pub platform: PlatformKind,
    /// In a cluster: the one namespace that is looked after; all where it is absent.
    pub namespace: Option<String>,
    /// In a cluster: Prometheus, as second source of metrics.
    pub prometheus_url: Option<String>,
    /// In a cluster: namespace of the Lease that decides which of several autoscalers acts.
    pub lease_namespace: String,
    /// In a cluster: who this process is among them; the host's name where it is absent.
    pub lease_identity: Option<String>,
    /// In a cluster: how long others wait for a leader that shows no sign of life.
    pub lease_seconds: u32,
    /// Files with InferenceAutoscaler and LocalDeployment objects.
    pub objects: Vec<PathBuf>,
    /// Object directory that is shared with sluice-driver.
    pub store: PathBuf,
    /// The kubelet's directory, where sluice-driver has its sockets.
    pub kubelet_dir: PathBuf,
    /// Where sluice-driver writes CDI specifications.
    pub cdi_dir: PathBuf,
    /// Replica records, decision logs and the model servers' output.
    pub state_dir: PathBuf,
    /// What happens to the replicas at SIGTERM.
    pub on_exit: OnExit,
    /// Time between two decisions.
    pub tick_ms: u64,
    /// Longest time that one scrape may take.
    pub scrape_timeout_ms: u64,
    /// Window over which the rate of rows is measured.
    pub demand_window_ms: u64,
    /// Window over which a burst is measured.
    pub burst_window_ms: u64,
    /// Window over which the trend is measured.
    pub trend_window_ms: u64,
    /// Window over which latency is observed.
    pub latency_window_ms: u64,
    /// A signal older than this is no signal.
    pub stale_ms: u64,
    /// How long panic lasts after the last burst.
    pub panic_ms: u64,
    /// In which time a queue is to be drained.
    pub queue_drain_ms: u64,
    /// Most bytes of all decision logs together.
    pub decision_log_bytes: u64,
    /// Admin port.
    pub admin_listen: SocketAddr,
    /// Form of the log.
    pub log_format: LogFormat,
    /// Filter of the log.
    pub log_level: String,
}

impl Default for Settings {
    fn default() -> Self {
        let windows = Windows::default();
        Self {
            platform: PlatformKind::Local,
            namespace: None,
            prometheus_url: None,
            lease_namespace: names::SYSTEM_NAMESPACE.to_owned(),
            lease_identity: None,
            lease_seconds: 15,
            objects: Vec::new(),
            store: "/var/lib/sluice/store".into(),
            kubelet_dir: sluice_kubelet_api::DEFAULT_KUBELET_DIR.into(),
            cdi_dir: "/var/run/cdi".into(),
            state_dir: "/var/lib/sluice/autoscaler".into(),
            on_exit: OnExit::Stop,
            tick_ms: 1000,
            scrape_timeout_ms: 500,
            demand_window_ms: windows.demand_ms,
            burst_window_ms: windows.burst_ms,
            trend_window_ms: windows.trend_ms,
            latency_window_ms: 30_000,
            stale_ms: windows.stale_ms,
            panic_ms: windows.panic_ms,
            queue_drain_ms: windows.drain_ms,
            decision_log_bytes: 1 << 30,
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 8083)),
            log_format: LogFormat::Text,
            log_level: "info".to_owned(),
        }
    }
}

impl Settings {
    /// Checks what the types cannot express.
    ///
    /// # Errors
    /// Names the setting, its value and what is allowed.
    pub fn validate(&self) -> anyhow::Result<()> {
        match self.platform {
            PlatformKind::Local => self.validate_local()?,
            PlatformKind::Kubernetes => self.validate_kubernetes()?,
        }
        for (name, value) in [
            ("tickMs", self.tick_ms),
            ("scrapeTimeoutMs", self.scrape_timeout_ms),
            ("demandWindowMs", self.demand_window_ms),
            ("burstWindowMs", self.burst_window_ms),
            ("trendWindowMs", self.trend_window_ms),
            ("latencyWindowMs", self.latency_window_ms),
            ("staleMs", self.stale_ms),
            ("queueDrainMs", self.queue_drain_ms),
        ] {
            if value == 0 || value > 86_400_000 {
                return Err(anyhow!("{name} is {value}, but must be 1 to 86400000 (a day)"));
            }
        }
        if self.panic_ms > 86_400_000 {
            return Err(anyhow!("panicMs is {}, but must be 0 to 86400000 (a day)", self.panic_ms));
        }
        for (name, window_ms) in [
            ("demandWindowMs", self.demand_window_ms),
            ("burstWindowMs", self.burst_window_ms),
            ("trendWindowMs", self.trend_window_ms),
            ("latencyWindowMs", self.latency_window_ms),
        ] {
            if window_ms < self.tick_ms {
                return Err(anyhow!(
                    "{name} is {window_ms}, but must be at least tickMs ({}), or a window holds no measurement",
                    self.tick_ms
                ));
            }
        }
        if let Some(twice) = self
            .objects
            .iter()
            .enumerate()
            .find_map(|(index, file)| self.objects[..index].contains(file).then_some(file))
        {
            return Err(anyhow!("objects names {} twice; name each file once", twice.display()));
        }
        if self.stale_ms < 2 * self.tick_ms {
            return Err(anyhow!(
                "staleMs is {}, but must be at least twice tickMs ({}), or one late scrape makes signals stale",
                self.stale_ms,
                self.tick_ms
            ));
        }
        if self.decision_log_bytes < 1 << 20 {
            return Err(anyhow!(
                "decisionLogBytes is {}, but must be at least 1048576 (1 MiB)",
                self.decision_log_bytes
            ));
        }
        Ok(())
    }

    fn validate_local(&self) -> anyhow::Result<()> {
        if self.objects.is_empty() {
            return Err(anyhow!(
                "objects is empty: name at least one file with an InferenceAutoscaler and a \
                        LocalDeployment (--objects FILE), or say --platform kubernetes"
            ));
        }
        let default = Self::default();
        let foreign = [
            ("namespace", self.namespace.is_some()),
            ("prometheusUrl", self.prometheus_url.is_some()),
            ("leaseNamespace", self.lease_namespace != default.lease_namespace),
            ("leaseIdentity", self.lease_identity.is_some()),
            ("leaseSeconds", self.lease_seconds != default.lease_seconds),
        ];
        only_for("kubernetes", &foreign)
    }

    fn validate_kubernetes(&self) -> anyhow::Result<()> {
        let default = Self::default();
        let foreign = [
            ("objects", !self.objects.is_empty()),
            ("store", self.store != default.store),
            ("kubeletDir", self.kubelet_dir != default.kubelet_dir),
            ("cdiDir", self.cdi_dir != default.cdi_dir),
            ("onExit", self.on_exit != default.on_exit),
        ];
        only_for("local", &foreign)?;
        if let Some(url) = &self.prometheus_url {
            check_url(url)?;
        }
        if !(3..=3600).contains(&self.lease_seconds) {
            return Err(anyhow!("leaseSeconds is {}, but must be 3 to 3600", self.lease_seconds));
        }
        for (name, text) in [
            ("namespace", self.namespace.as_ref()),
            ("leaseIdentity", self.lease_identity.as_ref()),
            ("leaseNamespace", Some(&self.lease_namespace)),
        ] {
            if text.is_some_and(String::is_empty) {
                return Err(anyhow!("{name} is empty; leave it out instead"));
            }
        }
        Ok(())
    }

    /// Returns the periods of controllers.
    pub fn timing(&self) -> Timing {
        Timing {
            tick: Duration::from_millis(self.tick_ms),
            windows: Windows {
                demand_ms: self.demand_window_ms,
                burst_ms: self.burst_window_ms,
                trend_ms: self.trend_window_ms,
                stale_ms: self.stale_ms,
                panic_ms: self.panic_ms,
                drain_ms: self.queue_drain_ms,
            },
            latency_window_ms: self.latency_window_ms,
        }
    }
}

/// Fails for the first given setting that is only for another platform.
fn only_for(platform: &str, given: &[(&str, bool)]) -> anyhow::Result<()> {
    match given.iter().find(|(_, is_given)| *is_given) {
        Some((name, _)) => Err(anyhow!("{name} is for platform {platform} alone; leave it out")),
        None => Ok(()),
    }
}

/// Flags and environment; what is absent leaves the file's value as it is.
#[derive(Debug, Default, Args, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Flags {
    /// Settings file (YAML); its fields are these flags in camelCase.
    #[arg(long, env = "SLUICE_AUTOSCALER_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Where replicas live.
    #[arg(long, env = "SLUICE_AUTOSCALER_PLATFORM")]
    pub platform: Option<PlatformKind>,
    /// In a cluster: the one namespace that is looked after; all where it is absent.
    #[arg(long, env = "SLUICE_AUTOSCALER_NAMESPACE", value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// In a cluster: Prometheus, as second source of metrics when sidecars cannot be scraped.
    #[arg(long, env = "SLUICE_AUTOSCALER_PROMETHEUS_URL", value_name = "URL")]
    pub prometheus_url: Option<String>,
    /// In a cluster: namespace of the Lease that decides which of several autoscalers acts.
    #[arg(long, env = "SLUICE_AUTOSCALER_LEASE_NAMESPACE", value_name = "NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// In a cluster: who this process is among them (its pod's name); the host's name where it is absent.
    #[arg(long, env = "SLUICE_AUTOSCALER_LEASE_IDENTITY", value_name = "NAME")]
    pub lease_identity: Option<String>,
    /// In a cluster: how long others wait for a leader that shows no sign of life, seconds.
    #[arg(long, env = "SLUICE_AUTOSCALER_LEASE_SECONDS", value_name = "SECONDS")]
    pub lease_seconds: Option<u32>,
    /// On one machine: files with InferenceAutoscaler and LocalDeployment objects (YAML, several documents each); read
    /// again when they change.
    #[arg(long, env = "SLUICE_AUTOSCALER_OBJECTS", value_delimiter = ',', value_name = "FILE")]
    pub objects: Option<Vec<PathBuf>>,
    /// On one machine: object directory that is shared with sluice-driver.
    #[arg(long, env = "SLUICE_AUTOSCALER_STORE", value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// On one machine: the kubelet's directory, where sluice-driver has its sockets.
    #[arg(long, env = "SLUICE_AUTOSCALER_KUBELET_DIR", value_name = "DIR")]
    pub kubelet_dir: Option<PathBuf>,
    /// On one machine: where sluice-driver writes CDI specifications.
    #[arg(long, env = "SLUICE_AUTOSCALER_CDI_DIR", value_name = "DIR")]
    pub cdi_dir: Option<PathBuf>,
    /// Decision logs; on one machine also replica records and the model servers' output.
    #[arg(long, env = "SLUICE_AUTOSCALER_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// On one machine: what happens to the replicas at SIGTERM: drained and stopped, or left for the next autoscaler.
    #[arg(long, env = "SLUICE_AUTOSCALER_ON_EXIT")]
    pub on_exit: Option<OnExit>,
    /// Time between two decisions, milliseconds.
    #[arg(long, env = "SLUICE_AUTOSCALER_TICK_MS", value_name = "MS")]
    pub tick_ms: Option<u64>,
    /// Longest time that one scrape may take, milliseconds.
    #[arg(long, env = "SLUICE_AUTOSCALER_SCRAPE_TIMEOUT_MS", value_name = "MS")]
    pub scrape_timeout_ms: Option<u64>,
    /// Window over which the rate of rows is measured, milliseconds.
    #[arg(long, env = "SLUICE_AUTOSCALER_DEMAND_WINDOW_MS", value_name = "MS")]
    pub demand_window_ms: Option<u64>,
    /// Window over which a burst is measured, milliseconds.
    #[arg(long, env = "SLUICE_AUTOSCALER_BURST_WINDOW_MS", value_name = "MS")]
    pub burst_window_ms: Option<u64>,
    /// Window over which the trend is measured, milliseconds.
    #[arg(long, env = "SLUICE_AUTOSCALER_TREND_WINDOW_MS", value_name = "MS")]
    pub trend_window_ms: Option<u64>,
    /// Window over which latency is observed, milliseconds.
    #[arg(long, env = "SLUICE_AUTOSCALER_LATENCY_WINDOW_MS", value_name = "MS")]
    pub latency_window_ms: Option<u64>,
    /// A signal older than this is no signal, milliseconds.
    #[arg(long, env = "SLUICE_AUTOSCALER_STALE_MS", value_name = "MS")]
    pub stale_ms: Option<u64>,
    /// How long panic lasts after the last burst, milliseconds.
    #[arg(long, env = "SLUICE_AUTOSCALER_PANIC_MS", value_name = "MS")]
    pub panic_ms: Option<u64>,
    /// In which time a queue is to be drained, milliseconds.
    #[arg(long, env = "SLUICE_AUTOSCALER_QUEUE_DRAIN_MS", value_name = "MS")]
    pub queue_drain_ms: Option<u64>,
    /// Most bytes of all decision logs together.
    #[arg(long, env = "SLUICE_AUTOSCALER_DECISION_LOG_BYTES", value_name = "BYTES")]
    pub decision_log_bytes: Option<u64>,
    /// Admin port: /metrics, /livez, /readyz.
    #[arg(long, env = "SLUICE_AUTOSCALER_ADMIN_LISTEN", value_name = "ADDRESS")]
    pub admin_listen: Option<SocketAddr>,
    /// Form of the log.
    #[arg(long, env = "SLUICE_AUTOSCALER_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Filter of the log, such as `info` or `warn,sluice_autoscaler=debug`.
    #[arg(long, env = "SLUICE_AUTOSCALER_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(change: impl FnOnce(&mut Settings)) -> Result<(), String> {
        let mut settings = Settings { platform: PlatformKind::Kubernetes, ..Settings::default() };
        change(&mut settings);
        settings.validate().map_err(|error| error.to_string())
    }

    #[test]
    fn in_a_cluster_nothing_has_to_be_set() {
        assert_eq!(cluster(|_| ()), Ok(()));
        assert!(Settings::default().validate().unwrap_err().to_string().contains("objects is empty"));
    }

    #[test]
    fn what_means_nothing_on_a_platform_is_refused_by_its_name() {
        let error = cluster(|settings| settings.objects = vec!["a.yaml".into()]).unwrap_err();
        assert_eq!(error, "objects is for platform local alone; leave it out");
        let error = cluster(|settings| settings.kubelet_dir = "/tmp".into()).unwrap_err();
        assert!(error.starts_with("kubeletDir"), "{error}");
        let url = Some("http://prometheus:9090".to_owned());
        let local = Settings { objects: vec!["a.yaml".into()], prometheus_url: url, ..Settings::default() };
        assert_eq!(
            local.validate().unwrap_err().to_string(),
            "prometheusUrl is for platform kubernetes alone; leave it out"
        );
    }

    #[test]
    fn a_url_or_a_lease_that_cannot_be_used_is_refused() {
        let error = cluster(|settings| settings.prometheus_url = Some("https://p".to_owned())).unwrap_err();
        assert!(error.contains("prometheusUrl"), "{error}");
        assert!(cluster(|settings| settings.lease_seconds = 1).unwrap_err().starts_with("leaseSeconds is 1"));
        let error = cluster(|settings| settings.lease_identity = Some(String::new())).unwrap_err();
        assert!(error.starts_with("leaseIdentity is empty"), "{error}");
    }

    #[test]
    fn windows_that_measure_nothing_are_refused() {
        let error = cluster(|settings| settings.burst_window_ms = 500).unwrap_err();
        assert_eq!(
            error,
            "burstWindowMs is 500, but must be at least tickMs (1000), or a window holds no measurement"
        );
        let error = cluster(|settings| settings.panic_ms = 86_400_001).unwrap_err();
        assert!(error.starts_with("panicMs is 86400001"), "{error}");
        let twice = vec!["a.yaml".into(), "a.yaml".into()];
        let error = Settings { objects: twice, ..Settings::default() }.validate().unwrap_err().to_string();
        assert_eq!(error, "objects names a.yaml twice; name each file once");
    }
}
