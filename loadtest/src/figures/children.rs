//! Programs that run for the time of a measurement and end with it, however it ends.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sluice_config::names::env;
use tokio::process::Command;

use crate::admin_port::Admin;

/// Time that a program has to end after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a program is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It could not be started.
    #[error(
        "{path}: {source}; build it (cargo build --release -p sluice-batcher -p sluice-loadtest) or give --bin-dir"
    )]
    Start {
        /// The program.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It did not become ready.
    #[error("{name} did not become ready within {} s: {last}", timeout.as_secs())]
    NotReady {
        /// The program.
        name: String,
        /// How long it had.
        timeout: Duration,
        /// What was heard last.
        last: String,
    },
    /// It ended by itself, or with an error.
    #[error("{name} ended with {status}")]
    Ended {
        /// The program.
        name: String,
        /// How.
        status: ExitStatus,
    },
    /// It did not end when told to.
    #[error("{name} did not end within {} s of SIGTERM and was killed", STOP_TIMEOUT.as_secs())]
    NotStopped {
        /// The program.
        name: String,
    },
    /// Something of the system's.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// A running program; killed when dropped.
#[derive(Debug)]
pub(super) struct Child {
    name: String,
    process: tokio::process::Child,
}

impl Child {
    /// Starts `name` from `bin_dir` on a whole simulated GPU (profile 7g.80gb).
    pub(super) fn start(bin_dir: &Path, name: &str, arguments: &[&str]) -> Result<Self, ChildError> {
        let path = bin_dir.join(name);
        let process = Command::new(&path)
            .args(arguments)
            .env(env::PROFILE, "7g.80gb")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            // A Ctrl-C at the terminal is for this program, which ends the others.
            .process_group(0)
            .spawn()
            .map_err(|source| ChildError::Start { path, source })?;
        Ok(Self { name: name.to_owned(), process })
    }

    /// Waits until `/readyz` on its admin port says so.
    pub(super) async fn wait_ready(&self, admin: SocketAddr, timeout: Duration) -> Result<(), ChildError> {
        let deadline = tokio::time::Instant::now() + timeout;
        loop {
            match Admin(admin).get("/readyz").await {
                Ok(_) => return Ok(()),
                Err(last) if tokio::time::Instant::now() >= deadline => {
                    return Err(ChildError::NotReady { name: self.name.clone(), timeout, last });
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Ends it gracefully.
    pub(super) async fn stop(mut self) -> Result<(), ChildError> {
        let pid = self.process.id().and_then(|id| Pid::from_raw(id as i32));
        if let Some(pid) = pid {
            kill_process(pid, Signal::TERM).map_err(std::io::Error::from)?;
        }
        let ended = tokio::time::timeout(STOP_TIMEOUT, self.process.wait()).await;
        match ended {
            Ok(status) => match status? {
                status if status.success() => Ok(()),
                status => Err(ChildError::Ended { name: self.name, status }),
            },
            Err(_elapsed) => Err(ChildError::NotStopped { name: self.name }),
        }
    }
}

/// A free port of this machine. It is free again when this returns, so that the program can take it.
pub(super) fn free_address() -> Result<SocketAddr, ChildError> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
