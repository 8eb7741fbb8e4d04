//! Starts a replica: prepares its claim, starts its process, and adds it to the gateway.

use tokio::net::{TcpListener, TcpStream};

use super::{CALL_PAUSES, Halt, LOOK_EVERY, Replica};
use crate::fetch::Fetcher;
use crate::platform::local::cdi;
use crate::platform::local::process::{Launch, Process};
use sluice_process::backoff::{Backoff, jitter};

impl Replica {
    /// Prepares the claim, trying again until that succeeds, and starts the process.
    pub(super) async fn launch(&mut self) -> Result<Process, Halt> {
        let mut env: Vec<(String, String)> =
            self.deployment.spec.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let devices = self.prepare().await?;
        env.extend(
            cdi::environment(&self.shared.cdi_dir, &devices)
                .map_err(|error| Halt::Failed(error.to_string()))?,
        );
        let port = free_port().await.map_err(|error| Halt::Failed(format!("no free port: {error}")))?;
        let command: Vec<String> = self
            .deployment
            .spec
            .command
            .iter()
            .map(|argument| {
                argument.replace("{port}", &port.to_string()).replace("{name}", &self.record.name)
            })
            .collect();
        self.record.port = Some(port);
        self.record.starts += 1;
        self.record.process = None;
        self.save();
        let log = self.shared.log_dir.join(format!("{}.{}.log", self.record.namespace, self.record.name));
        let process = Process::start(&Launch { command: &command, env: &env, log: &log })
            .map_err(|error| Halt::Failed(error.to_string()))?;
        self.record.process = Some(process.identity().clone());
        self.save();
        tracing::info!(
            replica = self.record.name,
            pid = process.identity().pid,
            port,
            log = %log.display(),
            "Started a model server."
        );
        Ok(process)
    }

    async fn prepare(&mut self) -> Result<Vec<String>, Halt> {
        let mut pauses = Backoff::new(CALL_PAUSES.0, CALL_PAUSES.1);
        loop {
            let claim = self.claim();
            match self.unless_stopped(self.shared.kubelet.prepare(&claim)).await? {
                Ok(devices) => return Ok(devices),
                Err(error) => {
                    tracing::warn!(replica = self.record.name, %error, "Failed to prepare the claim; trying again.");
                }
            }
            self.unless_stopped(tokio::time::sleep(pauses.pause(jitter()))).await?;
        }
    }

    /// Adds the process to the gateway's upstreams. Every process is an upstream of its own, so that the gateway never
    /// mistakes a new process for an old one.
    pub(super) async fn join(&mut self, port: u16) -> Result<String, Halt> {
        let member = match self.record.starts {
            0 | 1 => self.record.name.clone(),
            starts => format!("{}-r{}", self.record.name, starts - 1),
        };
        self.record.member = Some(member.clone());
        self.save();
        let joined = self.members.join(&member, format!("127.0.0.1:{port}")).await;
        joined.map_err(|error| Halt::Failed(format!("the gateway's members file: {error}")))?;
        Ok(member)
    }
}

/// Returns a port on which no process listens now. If another process takes it before the model server does, the model
/// server fails to start, and is started again on another port.
async fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0)).await?.local_addr()?.port())
}

/// Waits until a process listens on the port.
pub(super) async fn listening(port: u16) {
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits until the readiness URL responds with 200.
pub(super) async fn loaded(readiness: &Fetcher, url: &str) {
    while readiness.get_ok(url).await.is_err() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
