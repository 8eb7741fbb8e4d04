//! One long-running program of the demo: started, started again when it dies, stopped in the end. What a
//! node's service manager (or the kubelet) does for the same program in production.

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
/// More restarts than this and the program is broken, not unlucky.
const MAX_RESTARTS: u32 = 20;

/// How to start a program.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// Name in messages and of the log file.
    pub name: String,
    pub path: PathBuf,
    pub arguments: Vec<OsString>,
    /// Variable that marks every process of this run, inherited by what the program starts.
    pub mark: (&'static str, String),
    /// Standard output and error go here.
    pub log: PathBuf,
}

/// A program that is kept running until it is stopped.
#[derive(Debug)]
pub(crate) struct Supervised {
    name: String,
    pid: Arc<Mutex<Option<u32>>>,
    restarts: Arc<AtomicU32>,
    // Dropped without being stopped (an interrupted start), it must at least not start its program again.
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
            // A Ctrl-C at the terminal is for the demo alone: it stops the programs in their order.
            .process_group(0)
            .spawn()
            .map_err(failed)
    }
}

impl Supervised {
    /// Starts `program` and keeps it running.
    ///
    /// # Errors
    /// When it cannot be started at all.
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

    /// Its process id; `None` between two lives.
    pub(crate) fn pid(&self) -> Option<u32> {
        *self.pid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Times that it was started again.
    pub(crate) fn restarts(&self) -> u32 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// Sends SIGKILL, as a crash; the supervisor starts it again. `false` when it was not running.
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
            // Stopped between the check above and the new pid: nobody else can signal this child.
            child.id().map(|pid| signal(pid, Signal::TERM));
        }
    }
}

fn append(path: &Path) -> std::io::Result<File> {
    File::options().create(true).append(true).open(path)
}
