//! The programs of one arm on one machine: simulated GPUs, driver, gateway, autoscaler, and (started by the
//! autoscaler) model servers. Separate processes that talk over real sockets, as in production.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Error, anyhow, bail};
use sluice_config::api::local_deployment::GatewayRef;
use sluice_config::metric_names;

use super::arm::{Arm, NAME};
use super::gpus;
use super::ports::Ports;
use super::process::{Program, Supervised};
use super::settings::DemoSettings;
use crate::admin_port::Admin;
use crate::clock;
use crate::marked::MARK;

/// Time within which the arm must be ready after its programs have started, on a slow machine.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause between two checks of a condition that is waited for.
const POLL: Duration = Duration::from_millis(100);
/// Time that a program may take to stop; in it the autoscaler drains and stops all replicas.
const STOP_GRACE: Duration = Duration::from_secs(40);

/// Longest path of a run's folder. A unix socket's path has at most 107 bytes; up to 60 of them are the arm's name and
/// the driver's registration socket below it.
const LONGEST_DIR_BYTES: usize = 47;

/// Folders, ports and mark of one run of the demo.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// Folder of the built programs.
    pub bin_dir: PathBuf,
    /// Folder of this run, with one folder per arm.
    pub dir: PathBuf,
    /// Value of [`MARK`] in every process of the run.
    pub id: String,
    pub ports: Ports,
}

impl Run {
    /// Creates a run with a new folder of its own, which no other user can enter.
    ///
    /// # Errors
    /// When the folder cannot be created, its path is too long for unix sockets, or no ports are free.
    pub(crate) fn new(bin_dir: PathBuf) -> anyhow::Result<Self> {
        // The process id alone is not unique: it is the same in every container, for example.
        let id = format!("{}-{:08x}", std::process::id(), clock::now_ns() as u32);
        let dir = std::env::temp_dir().join(format!("sluice-{id}"));
        if dir.as_os_str().len() > LONGEST_DIR_BYTES {
            bail!(
                "{}: unix sockets below it would have too long a path; set TMPDIR to a shorter folder",
                dir.display()
            );
        }
        let made = std::fs::DirBuilder::new().mode(0o700).create(&dir);
        made.map_err(|error| anyhow!("{}: {error}", dir.display()))?;
        let ports = Ports::take(std::process::id())?;
        Ok(Self { bin_dir, dir, id, ports })
    }
}

/// The running programs of one arm.
#[derive(Debug)]
pub(crate) struct Stack {
    dir: PathBuf,
    /// Address to which requests are sent.
    pub front: SocketAddr,
    pub gateway_admin: Admin,
    pub driver_admin: Admin,
    pub autoscaler_admin: Admin,
    pub driver: Supervised,
    pub gateway: Supervised,
    /// Decides the number of model servers, starts and supervises them.
    pub autoscaler: Supervised,
}

/// Results that are known only after everything has stopped.
#[derive(Debug, Clone, Default)]
pub(crate) struct StackEnd {
    /// Total of the driver's counter of slice-seconds.
    pub slice_seconds: f64,
    /// Slices that are left: the driver's gauge or the instances on the simulated GPUs, whichever is larger.
    pub slices_left: u64,
    /// Number of restarts of all programs.
    pub restarts: u32,
    /// Messages of programs that did not stop properly.
    pub errors: Vec<String>,
}

impl Stack {
    /// Starts the arm's programs and waits until its first replicas take traffic.
    ///
    /// # Errors
    /// When a program cannot be started or is not ready in time; the message names the arm and the folder of its logs.
    /// Programs that had started are stopped again.
    pub(crate) async fn start(run: &Run, arm: &Arm, settings: &DemoSettings) -> anyhow::Result<Self> {
        let stack = Self::spawn(run, arm, settings)?;
        match stack.wait_until_ready(arm.initial_replicas(settings)).await {
            Ok(()) => Ok(stack),
            Err(error) => {
                let logs = stack.dir.join("log");
                let _ = stack.stop().await;
                Err(anyhow!("{}: {error}; logs are in {}", arm.name, logs.display()))
            }
        }
    }

    fn spawn(run: &Run, arm: &Arm, settings: &DemoSettings) -> anyhow::Result<Self> {
        let dir = run.dir.join(&arm.name);
        let io = |error: std::io::Error| anyhow!("{}: {error}", dir.display());
        for folder in ["log", "journal", "driver-root"] {
            std::fs::create_dir_all(dir.join(folder)).map_err(io)?;
        }
        gpus::install(&run.bin_dir, &dir.join("driver-root"), &settings.gpus)?;
        let members_file = dir.join("members.json");
        std::fs::write(&members_file, r#"{"upstreams":[]}"#).map_err(io)?;
        let [front, gateway_admin, driver_admin, autoscaler_admin] = run.ports.addresses()?;
        let gateway_ref =
            GatewayRef { members_file: members_file.clone(), admin_url: format!("http://{gateway_admin}") };
        let objects = dir.join("objects.yaml");
        let manifest =
            arm.manifest(settings, &run.bin_dir.join("sluice-loadtest"), &dir.join("journal"), gateway_ref)?;
        std::fs::write(&objects, manifest).map_err(io)?;
        let autoscaler_settings = dir.join("autoscaler.yaml");
        let windows = serde_json::to_string_pretty(&settings.autoscaler)?;
        std::fs::write(&autoscaler_settings, windows).map_err(io)?;

        let program = |name: &str, admin: SocketAddr| {
            Program {
                name: format!("{}/{name}", arm.name),
                path: run.bin_dir.join(name),
                arguments: Vec::new(),
                mark: (MARK, run.id.clone()),
                log: dir.join("log").join(format!("{name}.log")),
            }
            .flag("--admin-listen", admin.to_string())
        };
        let on_node = |program: Program| {
            program
                .flag("--store", path(&dir, "store"))
                .flag("--kubelet-dir", path(&dir, "kubelet"))
                .flag("--cdi-dir", path(&dir, "cdi"))
        };
        let driver = on_node(program("sluice-driver", driver_admin))
            .flag("--driver-root", path(&dir, "driver-root"))
            .flag("--state-dir", path(&dir, "driver"))
            .flag("--node-name", &arm.name);
        let gateway = program("sluice-batcher", gateway_admin)
            .flag("--role", "gateway")
            .flag("--listen", front.to_string())
            .flag("--members", members_file)
            .flag("--models", NAME)
            .flag("--objective-ms", settings.objective.latency_ms.to_string())
            .flag("--max-batch-rows", settings.model.max_batch_rows.to_string());
        let autoscaler = on_node(program("sluice-autoscaler", autoscaler_admin))
            .flag("--config", autoscaler_settings)
            .flag("--platform", "local")
            .flag("--objects", objects)
            .flag("--state-dir", path(&dir, "autoscaler"));
        Ok(Self {
            dir: dir.clone(),
            front,
            gateway_admin: Admin(gateway_admin),
            driver_admin: Admin(driver_admin),
            autoscaler_admin: Admin(autoscaler_admin),
            driver: Supervised::start(driver).map_err(Error::msg)?,
            gateway: Supervised::start(gateway).map_err(Error::msg)?,
            autoscaler: Supervised::start(autoscaler).map_err(Error::msg)?,
        })
    }

    async fn wait_until_ready(&self, replicas: u32) -> anyhow::Result<()> {
        let wait = async {
            while self.driver_admin.get("/readyz").await.is_err() {
                tokio::time::sleep(POLL).await;
            }
            while self.ready_replicas().await < replicas {
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(STEP_TIMEOUT, wait)
            .await
            .map_err(|_| anyhow!("{replicas} replicas were not ready within {} s", STEP_TIMEOUT.as_secs()))
    }

    async fn ready_replicas(&self) -> u32 {
        let ready = self.gateway_admin.upstreams().await.unwrap_or_default();
        ready.iter().filter(|upstream| upstream.state == "ready").count() as u32
    }

    /// Describes processes and sockets of the arm, one line each.
    pub(crate) async fn describe(&self) -> Vec<String> {
        let line = |program: &Supervised, name: &str, sockets: String| {
            let pid = program.pid().map_or("-".to_owned(), |pid| pid.to_string());
            format!("pid {pid:>7}  {name:<18} {sockets}")
        };
        let registration = path(&self.dir, "kubelet/plugins_registry/gpu.sluice.dev-reg.sock");
        let mut lines = vec![
            line(
                &self.driver,
                "sluice-driver",
                format!("admin {}  unix {}", self.driver_admin.0, Path::new(&registration).display()),
            ),
            line(&self.autoscaler, "sluice-autoscaler", format!("admin {}", self.autoscaler_admin.0)),
            line(
                &self.gateway,
                "sluice-batcher",
                format!("front {} (HTTP/1.1, h2c, gRPC)  admin {}", self.front, self.gateway_admin.0),
            ),
        ];
        for upstream in self.gateway_admin.upstreams().await.unwrap_or_default() {
            lines.push(format!(
                "             {:<18} {}  (model server, simulated inference, {})",
                upstream.name, upstream.address, upstream.state
            ));
        }
        lines
    }

    /// Returns the process ids of the arm's model servers among the run's processes.
    pub(crate) fn model_servers(&self, processes: Vec<(u32, String)>) -> Vec<u32> {
        let journals = self.dir.join("journal").display().to_string();
        processes.into_iter().filter(|(_, command)| command.contains(&journals)).map(|(pid, _)| pid).collect()
    }

    /// Stops everything in order: the autoscaler, which ends its replicas, then the gateway and the driver.
    pub(crate) async fn stop(self) -> StackEnd {
        let restarts = self.driver.restarts() + self.gateway.restarts() + self.autoscaler.restarts();
        let mut end = StackEnd { restarts, ..Default::default() };
        end.errors.extend(self.autoscaler.stop(STOP_GRACE).await.err());
        match self.driver_admin.metrics().await {
            Ok(metrics) => {
                let sum = |name| metrics.sum(name).unwrap_or(0.0);
                end.slice_seconds = sum(metric_names::driver::SLICE_SECONDS_TOTAL);
                end.slices_left = sum(metric_names::driver::SLICES_IN_USE) as u64;
            }
            Err(error) => end.errors.push(format!("the driver's metrics could not be read: {error}")),
        }
        end.errors.extend(self.gateway.stop(STOP_GRACE).await.err());
        end.errors.extend(self.driver.stop(STOP_GRACE).await.err());
        match gpus::instances(&self.dir.join("driver-root")) {
            Ok(instances) => end.slices_left = end.slices_left.max(instances),
            Err(error) => end.errors.push(error.to_string()),
        }
        end
    }
}

fn path(dir: &Path, name: &str) -> OsString {
    dir.join(name).into_os_string()
}
