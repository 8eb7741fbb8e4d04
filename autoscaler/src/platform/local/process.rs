//! One model-server process: a child, or one adopted from an earlier supervisor.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use sluice_process::files;
use tokio::process::{Child, Command};

use super::procfs::{Identity, processes_of_claim};

/// Size of a log file, bytes, beyond which it is renamed when the model server is started again.
const LOG_BYTES: u64 = 16 << 20;
/// Time between two checks of a process that is not a child.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Command of a model server.
#[derive(Debug)]
pub(super) struct Launch<'a> {
    /// Program and arguments.
    pub(super) command: &'a [String],
    /// Variables added to the supervisor's own environment.
    pub(super) env: &'a [(String, String)],
    /// File for standard output and error; a pipe would break when the supervisor ends.
    pub(super) log: &'a Path,
}

/// A running (or just ended) process, leader of its own process group.
pub(super) struct Process {
    identity: Identity,
    handle: Handle,
}

enum Handle {
    Child(Box<Child>),
    /// Not a child: /proc shows when it has ended, but not how.
    Adopted,
}

impl Process {
    /// Starts a process in a group of its own, so that it outlives the supervisor and is signalled as a whole.
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

    /// Takes over a process that an earlier supervisor started; `None` where it is not alive any more.
    pub(super) fn adopt(identity: &Identity) -> io::Result<Option<Self>> {
        if !identity.is_alive()? {
            return Ok(None);
        }
        Ok(Some(Self { identity: identity.clone(), handle: Handle::Adopted }))
    }

    /// Finds a process that an earlier supervisor started for the claim without recording it; `None` where no such
    /// process runs.
    pub(super) fn find(claim_uid: &str) -> io::Result<Option<Self>> {
        let leaders = processes_of_claim(claim_uid)?;
        match leaders.iter().find(|(identity, group)| identity.pid == *group) {
            Some((identity, _)) => Self::adopt(identity),
            None => Ok(None),
        }
    }

    /// Returns the identity of the process.
    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Waits until the process has ended, and returns how. Cancel safe.
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

    /// Sends SIGTERM to the group, SIGKILL after `grace`, and waits until the process has ended.
    pub(super) async fn stop(&mut self, grace: Duration) {
        self.signal(Signal::TERM);
        if tokio::time::timeout(grace, self.ended()).await.is_err() {
            tracing::warn!(
                pid = self.identity.pid,
                grace_ms = grace.as_millis(),
                "A model server did not end on SIGTERM; killing it."
            );
            self.signal(Signal::KILL);
            self.ended().await;
        }
    }

    /// Signals the whole group, if its leader certainly still is this process.
    fn signal(&self, signal: Signal) {
        let is_ours = match &self.handle {
            // A child keeps its pid until it is waited for, and `id` is none after that.
            Handle::Child(child) => child.id().is_some(),
            Handle::Adopted => self.identity.is_alive().unwrap_or(false),
        };
        if is_ours && let Some(group) = Pid::from_raw(self.identity.pid) {
            // ESRCH: it ended just now, as intended.
            let _ = kill_process_group(group, signal);
        }
    }
}

/// Kills processes that a model server has started and left behind. To be called after the server itself has ended.
pub(super) fn kill_leftovers(claim_uid: &str) {
    let Ok(processes) = processes_of_claim(claim_uid) else { return };
    for (identity, _) in processes {
        if let Some(pid) = Pid::from_raw(identity.pid)
            && identity.is_alive().unwrap_or(false)
        {
            tracing::info!(
                pid = identity.pid,
                claim_uid,
                "Killing a process that a model server left behind."
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
