//! Programs that run for the time of a measurement and end with it, however it ends.

use std::ffi::OsString;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Result, anyhow};
use rustix::process::Signal;
use sluice_config::names::env;
use tokio::process::{Child, Command};

use super::cpu::CpuTime;
use crate::marked::{self, MARK, signal};

/// Time that a program has to end after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// Number of lines of a program's log that an error shows.
const LINES_SHOWN: usize = 4;

/// Command line and environment of a program.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    /// Name of the program in messages, and of its log file.
    pub name: String,
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    /// Variables that are added to the environment.
    pub environment: Vec<(String, OsString)>,
}

impl Launch {
    /// Creates the start of a program without arguments.
    pub(crate) fn new(name: impl Into<String>, program: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), program: program.into(), arguments: Vec::new(), environment: Vec::new() }
    }

    /// Adds an argument.
    #[must_use]
    pub(crate) fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds `--flag value`.
    #[must_use]
    pub(crate) fn flag(self, flag: &str, value: impl ToString) -> Self {
        self.arg(flag).arg(value.to_string())
    }

    /// Adds a variable to the environment.
    #[must_use]
    pub(crate) fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }
}

/// Running program with all processes that it has started; they are killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Program {
    name: String,
    process: Child,
    log: PathBuf,
    mark: String,
    sweep: marked::Sweep,
}

impl Program {
    /// Starts a program in its own process group, with its output in `log_dir`.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub(crate) fn start(launch: &Launch, log_dir: &Path) -> Result<Self> {
        let failed =
            |error: std::io::Error| anyhow!("{}: {}: {error}", launch.name, launch.program.display());
        let log = log_dir.join(format!("{}.log", launch.name));
        let output = File::create(&log).map_err(failed)?;
        let errors = output.try_clone().map_err(failed)?;
        let mark = format!("compare-{}-{}", std::process::id(), launch.name);
        let process = Command::new(&launch.program)
            .args(&launch.arguments)
            // Simulated models run as fast as on a whole simulated GPU.
            .env(env::PROFILE, "7g.80gb")
            .env(MARK, &mark)
            .envs(launch.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(log_dir)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .kill_on_drop(true)
            // Ctrl-C at the terminal must reach this program alone, which ends the others.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        Ok(Self { name: launch.name.clone(), process, log, sweep: marked::Sweep::of(&mark), mark })
    }

    /// Returns how the program ended; `None` while it runs.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let status = self.process.try_wait().ok().flatten()?;
        Some(format!("{} ended with {status}: {}", self.name, self.last_words()))
    }

    /// Returns the CPU time of the program's processes so far.
    pub(crate) fn cpu(&self) -> CpuTime {
        CpuTime::of(marked::processes(&self.mark).into_iter().map(|(pid, _)| pid))
    }

    /// Returns the last lines of the program's log.
    pub(crate) fn last_words(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let last: Vec<&str> =
            log.lines().rev().filter(|line| !line.trim().is_empty()).take(LINES_SHOWN).collect();
        last.into_iter().rev().map(str::trim).collect::<Vec<_>>().join(" / ")
    }

    /// Sends SIGTERM to the program, then SIGKILL to its remaining processes.
    pub(crate) async fn stop(mut self) {
        if let Some(pid) = self.process.id() {
            signal(pid, Signal::TERM);
        }
        let _ = tokio::time::timeout(STOP_TIMEOUT, self.process.wait()).await;
        let left = self.sweep.end();
        if !left.is_empty() {
            tracing::debug!(program = self.name, processes = left.len(), "Processes had to be killed.");
        }
    }
}

/// Finds a free port of this machine. The port is free again when this returns, so that a program can take it.
///
/// # Errors
/// When the system has no free port.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| anyhow!("a port: {error}"))?;
    listener.local_addr().map_err(|error| anyhow!("a port: {error}"))
}
