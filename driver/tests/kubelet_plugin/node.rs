//! Node for tests: simulated GPUs, a directory of objects, and a sluice-driver process on them.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceSlice};
use nvidia_ml::{Installation, Topology, install};
use serde_json::json;
use sluice_config::objects::ObjectDir;

use crate::kubelet::Kubelet;

/// Time limit far above what anything here takes. It is only reached when something is broken.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// 2g.10gb on the simulated A100.
pub(crate) const PROFILE_2G: u32 = 14;
/// Device of that profile.
pub(crate) const SLICE: &str = "gpu-0-mig-2g-10gb-4";

pub(crate) struct Node {
    dir: tempfile::TempDir,
    pub(crate) gpus: Installation,
    pub(crate) objects: ObjectDir,
    driver: Option<Driver>,
    starts: usize,
}

struct Driver {
    process: Child,
    log: PathBuf,
    admin: String,
}

/// Instance on the simulated GPUs: GPU, profile, start, UUIDs of compute instances.
pub(crate) type Standing = Vec<(usize, String, u32, Vec<String>)>;

impl Node {
    /// Creates two A100 40 GB: GPU 0 with MIG mode on, GPU 1 with it off. The driver is not started.
    pub(crate) fn new() -> Self {
        let mut topology = Topology::uniform("A100-SXM4-40GB", 2);
        topology.gpus[0].mig_enabled = true;
        Self::with(topology)
    }

    /// Creates a node with other GPUs.
    pub(crate) fn with(topology: Topology) -> Self {
        let dir = tempfile::Builder::new().prefix("sd").tempdir().unwrap();
        let gpus = install(&dir.path().join("root/usr/lib64"), &topology).unwrap();
        let objects = ObjectDir::new(dir.path().join("objects"));
        Self { dir, gpus, objects, driver: None, starts: 0 }
    }

    /// Creates a node whose driver was started with these arguments and has prepared [`SLICE`] for the claim `bert`.
    pub(crate) fn with_claim(arguments: &[&str]) -> Self {
        let mut node = Self::new();
        node.start(arguments);
        node.allocate("bert", SLICE);
        node.kubelet().prepare("bert").unwrap();
        node
    }

    pub(crate) fn started() -> Self {
        let mut node = Self::new();
        node.start(&[]);
        node
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = self.command_without_store();
        command.arg("--store").arg(self.path("objects"));
        command
    }

    pub(crate) fn command_without_store(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-driver"));
        for (flag, folder) in [
            ("--driver-root", "root"),
            ("--kubelet-dir", "kubelet"),
            ("--cdi-dir", "cdi"),
            ("--state-dir", "state"),
        ] {
            command.arg(flag).arg(self.path(folder));
        }
        command.args(["--node-name", "n1", "--admin-listen", "127.0.0.1:0"]);
        // Tests that count or stop NVML calls need those of their own operations only; others set the period of the
        // checks.
        command.args(["--health-interval-seconds", "3600"]);
        command
    }

    /// Starts the driver and waits until it is ready.
    pub(crate) fn start(&mut self, arguments: &[&str]) {
        self.start_unready(arguments);
        self.eventually("/readyz", |node| node.get("/readyz").starts_with("HTTP/1.1 200").then_some(()));
    }

    /// Starts the driver and waits until its sockets are there, whether or not it becomes ready.
    pub(crate) fn start_unready(&mut self, arguments: &[&str]) {
        let log = self.spawn(arguments);
        let admin = self.eventually("the admin port's address in the log", |_| {
            let text = std::fs::read_to_string(&log).unwrap();
            let (_, rest) = text.split_once("address=")?;
            rest.contains('\n').then(|| rest.split_whitespace().next().unwrap_or_default().to_owned())
        });
        if let Some(driver) = &mut self.driver {
            driver.admin = admin;
        }
        let socket = self.path("kubelet/plugins_registry/gpu.sluice.dev-reg.sock");
        self.eventually("the sockets", |_| std::os::unix::net::UnixStream::connect(&socket).ok());
    }

    /// Starts the driver without waiting for it, and returns the path of its log.
    pub(crate) fn spawn(&mut self, arguments: &[&str]) -> PathBuf {
        assert!(self.driver.is_none(), "the driver runs already");
        self.starts += 1;
        let log = self.path(&format!("driver-{}.log", self.starts));
        let process = self.command().args(arguments).stderr(File::create(&log).unwrap()).spawn().unwrap();
        self.driver = Some(Driver { process, log: log.clone(), admin: String::new() });
        log
    }

    /// Kills the driver with SIGKILL, as a crash does.
    pub(crate) fn kill(&mut self) {
        let mut driver = self.driver.take().expect("the driver runs");
        driver.process.kill().unwrap();
        driver.process.wait().unwrap();
    }

    /// Stops the driver with SIGTERM, and returns whether it exited with success.
    pub(crate) fn terminate(&mut self) -> bool {
        self.signal_terminate();
        self.wait()
    }

    pub(crate) fn signal_terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let driver = self.driver.as_ref().expect("the driver runs");
        let pid = rustix::process::Pid::from_child(&driver.process);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Opens a connection to the admin port that sends nothing.
    pub(crate) fn connect_to_admin(&self) -> std::net::TcpStream {
        std::net::TcpStream::connect(&self.driver.as_ref().expect("the driver runs").admin).unwrap()
    }

    /// Waits for the exit of the process, and returns whether it was successful.
    pub(crate) fn wait(&mut self) -> bool {
        let mut driver = self.driver.take().expect("the driver runs");
        driver.process.wait().unwrap().success()
    }

    /// Waits for a successful exit of the process, and fails at the deadline.
    pub(crate) fn eventually_ends(&mut self) {
        let begin = Instant::now();
        let ended = loop {
            let driver = self.driver.as_mut().expect("the driver runs");
            if let Some(status) = driver.process.try_wait().unwrap() {
                break status;
            }
            assert!(begin.elapsed() < DEADLINE, "the driver does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        };
        assert!(ended.success(), "{ended}:\n{}", self.log());
        self.driver = None;
    }

    pub(crate) fn kubelet(&self) -> Kubelet {
        Kubelet::new(&self.path("kubelet"))
    }

    /// Writes claim `default/<name>` with one allocated device. Its UID is `<name>-uid`.
    pub(crate) fn allocate(&self, name: &str, device: &str) {
        self.allocate_requests(name, &[("gpu", device)]);
    }

    /// Writes a claim with one device for each of several requests.
    pub(crate) fn allocate_requests(&self, name: &str, requests: &[(&str, &str)]) {
        let asked: Vec<_> = requests.iter().map(|(request, _)| json!({"name": request})).collect();
        let results: Vec<_> = requests
            .iter()
            .map(|(request, device)| {
                json!({"request": request, "driver": "gpu.sluice.dev", "pool": "n1/gpu", "device": device})
            })
            .collect();
        let claim: ResourceClaim = serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "default", "uid": format!("{name}-uid")},
            "spec": {"devices": {"requests": asked}},
            "status": {"allocation": {"devices": {"results": results}}},
        }))
        .unwrap();
        self.objects.put(Some("default"), name, &claim).unwrap();
    }

    /// Sets `adminAccess` in all results of a claim.
    pub(crate) fn give_admin_access(&self, name: &str) {
        let mut claim: ResourceClaim = self.objects.get(Some("default"), name).unwrap().unwrap();
        let allocation = claim.status.as_mut().and_then(|status| status.allocation.as_mut()).unwrap();
        for result in allocation.devices.as_mut().unwrap().results.iter_mut().flatten() {
            result.admin_access = Some(true);
        }
        self.objects.put(Some("default"), name, &claim).unwrap();
    }

    pub(crate) fn delete_claim(&self, name: &str) {
        self.objects.delete::<ResourceClaim>(Some("default"), name).unwrap();
    }

    pub(crate) fn slices(&self) -> Vec<ResourceSlice> {
        self.objects.list().unwrap()
    }

    pub(crate) fn standing(&self) -> Standing {
        let instances = self.gpus.instances().unwrap();
        let computes = |computes: Vec<(u32, String)>| computes.into_iter().map(|(_, uuid)| uuid).collect();
        instances
            .into_iter()
            .map(|i| (i.gpu, i.profile.to_owned(), i.start, computes(i.compute_instances)))
            .collect()
    }

    /// Returns the CDI file of claim `default/<name>`; `None` if it does not exist.
    pub(crate) fn cdi(&self, name: &str) -> Option<serde_json::Value> {
        let bytes = std::fs::read(self.cdi_path(name)).ok()?;
        Some(serde_json::from_slice(&bytes).unwrap())
    }

    pub(crate) fn cdi_path(&self, name: &str) -> PathBuf {
        self.path("cdi").join(format!("sluice.dev-claim_{name}-uid.json"))
    }

    /// Returns the value of a metric with all its labels; 0 if it does not exist.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        self.try_metric(series).unwrap_or(0.0)
    }

    pub(crate) fn try_metric(&self, series: &str) -> Option<f64> {
        let page = self.get("/metrics");
        let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
        Some(value.trim().parse().unwrap())
    }

    pub(crate) fn log(&self) -> String {
        self.driver.as_ref().map(|d| std::fs::read_to_string(&d.log).unwrap()).unwrap_or_default()
    }

    /// Waits until `condition` holds. Fails with the driver's log at the deadline, or when the driver has exited.
    pub(crate) fn eventually<T>(&mut self, what: &str, mut condition: impl FnMut(&Self) -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(value) = condition(self) {
                return value;
            }
            let ended = self.driver.as_mut().and_then(|d| d.process.try_wait().unwrap());
            assert!(ended.is_none(), "the driver ended ({ended:?}) before {what}:\n{}", self.log());
            assert!(begin.elapsed() < DEADLINE, "no {what}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns the response of the admin port with its head.
    pub(crate) fn get(&self, path: &str) -> String {
        let admin = self.driver.as_ref().map(|driver| driver.admin.clone()).unwrap_or_default();
        http_get(&admin, path).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.driver.is_some() {
            if std::thread::panicking() {
                eprintln!("--- log of the driver\n{}", self.log());
            }
            self.kill();
        }
    }
}

fn http_get(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: driver\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Returns the UUID of a device in its CDI file.
pub(crate) fn told_uuid(cdi: &serde_json::Value, device: &str) -> Option<String> {
    let variable = sluice_config::names::env::uuid(device);
    environment(cdi).into_iter().find(|(name, _)| *name == variable).map(|(_, uuid)| uuid)
}

/// Returns the environment of the first device in a CDI file.
pub(crate) fn environment(cdi: &serde_json::Value) -> Vec<(String, String)> {
    let variables = cdi["devices"][0]["containerEdits"]["env"].as_array().unwrap().iter();
    variables
        .map(|variable| variable.as_str().unwrap().split_once('=').unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Returns whether a path exists.
pub(crate) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
