//! One model-server process: a child, or adopted from a supervisor that is gone.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use sluice_process::files;
use tokio::process::{Child, Command};

use super::procfs::{Identity, processes_of_claim};

/// Output of a model server beyond this size is moved aside when it is started again.
const LOG_BYTES: u64 = 16 << 20;
/// Time between two looks at a process that is not a child.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What to start.
#[derive(Debug)]
pub(super) struct Launch<'a> {
    /// Program and arguments.
    pub(super) command: &'a [String],
    /// Variables over the supervisor's own environment.
    pub(super) env: &'a [(String, String)],
    /// Where standard output and error go: a file, because a pipe would break with the supervisor.
    pub(super) log: &'a Path,
}

/// A running (or just ended) process, leader of its own process group.
pub(super) struct Process {
    identity: Identity,
    handle: Handle,
}

enum Handle {
    Child(Box<Child>),
    /// Not a child: /proc tells when it has ended, nobody tells how.
    Adopted,
}

impl Process {
    /// Starts a process in a group of its own, so that it outlives the supervisor and is signalled whole.
    ///
    /// # Errors
    /// The program cannot be started, or the log file cannot be opened.
    pub(super) fn start(launch: &Launch<'_>) -> io::Result<Self> {
        let log = open_log(launch.log)?;
        let [program, arguments @ ..] = launch.command else {
            return Err(io::Error::other("spec.command is empty"));
        };
        let child = Command::new(program)
            .args(arguments)
            .envs(launch.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(false)
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("cannot start {program:?}: {error}")))?;
        if let Some(pid) = child.id() {
            files::give_back(pid);
        }
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        // A child that was not waited for keeps its pid and its place in /proc, even when it has ended.
        let identity = pid.map_or(Ok(None), Identity::of)?;
        let identity = identity.ok_or_else(|| io::Error::other("a started process is not in /proc"))?;
        Ok(Self { identity, handle: Handle::Child(Box::new(child)) })
    }

    /// Takes over a process that another supervisor started; `None` when it is not alive any more.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub(super) fn adopt(identity: &Identity) -> io::Result<Option<Self>> {
        if !identity.is_alive()? {
            return Ok(None);
        }
        Ok(Some(Self { identity: identity.clone(), handle: Handle::Adopted }))
    }

    /// A process that was started for the claim by a supervisor that could not write it down any more.
    ///
    /// # Errors
    /// As [`adopt`](Self::adopt).
    pub(super) fn find(claim_uid: &str) -> io::Result<Option<Self>> {
        let leaders = processes_of_claim(claim_uid)?;
        match leaders.iter().find(|(identity, group)| identity.pid == *group) {
            Some((identity, _)) => Self::adopt(identity),
            None => Ok(None),
        }
    }

    /// Who it is.
    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Waits for its end and says how it ended. Cancel safe.
    pub(super) async fn ended(&mut self) -> String {
        match &mut self.handle {
            Handle::Child(child) => match child.wait().await {
                Ok(status) => describe(status),
                Err(error) => format!("cannot be waited for: {error}"),
            },
            Handle::Adopted => {
                while self.identity.is_alive().unwrap_or(true) {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                "ended".to_owned()
            }
        }
    }

    /// SIGTERM to the group, SIGKILL after `grace`, until it has ended.
    pub(super) async fn stop(&mut self, grace: Duration) {
        self.signal(Signal::TERM);
        if tokio::time::timeout(grace, self.ended()).await.is_err() {
            tracing::warn!(
                pid = self.identity.pid,
                grace_ms = grace.as_millis(),
                "A model server did not end on SIGTERM and is killed."
            );
            self.signal(Signal::KILL);
            self.ended().await;
        }
    }

    /// Signals the whole group while its leader is surely ours.
    fn signal(&self, signal: Signal) {
        let is_ours = match &self.handle {
            // A child keeps its pid until it is waited for, and `id` is none after that.
            Handle::Child(child) => child.id().is_some(),
            Handle::Adopted => self.identity.is_alive().unwrap_or(false),
        };
        if is_ours && let Some(group) = Pid::from_raw(self.identity.pid) {
            // ESRCH: it ended just now, which is what was wanted.
            let _ = kill_process_group(group, signal);
        }
    }
}

/// Kills what a model server has started and left behind. To be called when the server itself has ended.
pub(super) fn kill_leftovers(claim_uid: &str) {
    let Ok(processes) = processes_of_claim(claim_uid) else { return };
    for (identity, _) in processes {
        if let Some(pid) = Pid::from_raw(identity.pid)
            && identity.is_alive().unwrap_or(false)
        {
            tracing::info!(
                pid = identity.pid,
                claim_uid,
                "A process that a model server left behind is killed."
            );
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn open_log(path: &Path) -> io::Result<fs::File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() > LOG_BYTES) {
        fs::rename(path, path.with_extension("log.1"))?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}
