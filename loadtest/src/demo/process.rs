//! Supervises one long-running program of the demo: starts it, starts it again when it dies, and stops it in the end,
//! as a node's service manager (or the kubelet) does for the same program in production.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::marked::signal;

/// Pause before a program that died is started again.
const RESTART_DELAY: Duration = Duration::from_millis(500);
/// Number of restarts after which the supervisor gives up: a program that dies more often is broken.
const MAX_RESTARTS: u32 = 20;

/// Command line of a program.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// Name in messages and of the log file.
    pub name: String,
    pub path: PathBuf,
    pub arguments: Vec<OsString>,
    /// Environment variable that marks every process of this run; the processes that the program starts inherit it.
    pub mark: (&'static str, String),
    /// File of standard output and standard error.
    pub log: PathBuf,
}

/// Program that is kept running until it is stopped.
#[derive(Debug)]
pub(crate) struct Supervised {
    name: String,
    pid: Arc<Mutex<Option<u32>>>,
    restarts: Arc<AtomicU32>,
    // If this is dropped without being stopped (an interrupted start), the program must not be started again.
    stop: DropGuard,
    task: JoinHandle<Result<(), String>>,
}

impl Program {
    /// Adds `--flag value`.
    #[must_use]
    pub(crate) fn flag(mut self, flag: &str, value: impl Into<OsString>) -> Self {
        self.arguments.extend([flag.into(), value.into()]);
        self
    }

    fn spawn(&self) -> Result<Child, String> {
        let failed = |error: std::io::Error| format!("{}: {}: {error}", self.name, self.path.display());
        let log = append(&self.log).map_err(failed)?;
        let errors = log.try_clone().map_err(failed)?;
        Command::new(&self.path)
            .args(&self.arguments)
            .env(self.mark.0, &self.mark.1)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // Ctrl-C at the terminal must reach the demo alone: it stops the programs in their order.
            .process_group(0)
            .spawn()
            .map_err(failed)
    }
}

impl Supervised {
    /// Starts `program` and keeps it running.
    ///
    /// # Errors
    /// When the program cannot be started at all.
    pub(crate) fn start(program: Program) -> Result<Self, String> {
        let name = program.name.clone();
        let stop = CancellationToken::new();
        let restarts = Arc::new(AtomicU32::new(0));
        let first = program.spawn()?;
        let pid = Arc::new(Mutex::new(first.id()));
        let task =
            tokio::spawn(supervise(program, first, Arc::clone(&pid), Arc::clone(&restarts), stop.clone()));
        Ok(Self { name, pid, restarts, stop: stop.drop_guard(), task })
    }

    /// Returns the program's process id; `None` before it is started again.
    pub(crate) fn pid(&self) -> Option<u32> {
        *self.pid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of restarts.
    pub(crate) fn restarts(&self) -> u32 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// Sends SIGKILL, as a crash; the supervisor starts the program again. Returns `false` when it was not running.
    pub(crate) fn kill(&self) -> bool {
        self.pid().is_some_and(|pid| signal(pid, Signal::KILL))
    }

    /// Sends SIGTERM and waits up to `grace`, then SIGKILL.
    ///
    /// # Errors
    /// When the program had to be killed, or kept dying before.
    pub(crate) async fn stop(self, grace: Duration) -> Result<(), String> {
        let pid = self.pid();
        drop(self.stop);
        if let Some(pid) = pid {
            signal(pid, Signal::TERM);
        }
        let mut task = self.task;
        if let Ok(ended) = tokio::time::timeout(grace, &mut task).await {
            return ended.unwrap_or_else(|error| Err(format!("{}: {error}", self.name)));
        }
        if let Some(pid) = *self.pid.lock().unwrap_or_else(PoisonError::into_inner) {
            signal(pid, Signal::KILL);
        }
        let _ = task.await;
        Err(format!("{} did not stop within {} s of SIGTERM and was killed", self.name, grace.as_secs()))
    }
}

async fn supervise(
    program: Program,
    mut child: Child,
    pid: Arc<Mutex<Option<u32>>>,
    restarts: Arc<AtomicU32>,
    stop: CancellationToken,
) -> Result<(), String> {
    loop {
        let status = child.wait().await.map_err(|error| format!("{}: {error}", program.name))?;
        *pid.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if stop.is_cancelled() {
            return Ok(());
        }
        let restart = restarts.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::warn!(program = program.name, %status, restart, "A program ended and is started again.");
        if restart > MAX_RESTARTS {
            return Err(format!(
                "{} ended {restart} times, last with {status}; its log is {}",
                program.name,
                program.log.display()
            ));
        }
        tokio::select! {
            () = tokio::time::sleep(RESTART_DELAY) => {}
            () = stop.cancelled() => return Ok(()),
        }
        child = program.spawn()?;
        *pid.lock().unwrap_or_else(PoisonError::into_inner) = child.id();
        if stop.is_cancelled() {
            // It was stopped between the check above and the new process id: only this task can signal the new child.
            child.id().map(|pid| signal(pid, Signal::TERM));
        }
    }
}

fn append(path: &Path) -> std::io::Result<File> {
    File::options().create(true).append(true).open(path)
}
