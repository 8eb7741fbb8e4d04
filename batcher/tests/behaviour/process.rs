//! The program as a separate process, for tests of its memory.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::client::try_get;
use crate::model::Model;
use crate::start::PATIENCE;

pub struct Process {
    pub front: SocketAddr,
    pub admin: SocketAddr,
    child: Child,
}

impl Process {
    /// A sidecar of this model, ready; `settings` by their names in the environment, without the prefix.
    pub async fn start(model: &Model, name: &str, settings: &[(&str, &str)]) -> Self {
        loop {
            let (front, admin) = free_ports().await;
            let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-batcher"));
            command
                .args(["--listen", &front.to_string(), "--admin-listen", &admin.to_string()])
                .args(["--upstream", &model.upstream(), "--models", name, "--max-batch-rows", "8"])
                .args(["--objective-ms", "60000"])
                .stdout(Stdio::null());
            for (setting, value) in settings {
                command.env(format!("SLUICE_BATCHER_{setting}"), value);
            }
            let mut process = Self { front, admin, child: command.spawn().unwrap() };
            if process.is_ready().await {
                return process;
            }
        }
    }

    /// False where it has ended: its ports were taken.
    async fn is_ready(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            let asked = tokio::time::timeout(Duration::from_secs(5), try_get(self.front, "/v2/health/ready"));
            if asked.await.ok().flatten().is_some_and(|got| got.status == 200) {
                return true;
            }
            assert!(Instant::now() < deadline, "the process is ready in time");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    /// Its resident memory.
    pub fn resident_bytes(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<usize>().unwrap() << 10
    }
}

/// Two ports that were free just now.
async fn free_ports() -> (SocketAddr, SocketAddr) {
    let bind = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
    // The first is held while the second one is found.
    let (first, second) = (bind().await, bind().await);
    (first.local_addr().unwrap(), second.local_addr().unwrap())
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
