//! Supervisor, the first process of a cluster. It starts each component when its prerequisite is met, restarts it when
//! it ends, executes orders, and reaps orphaned processes.
//!
//! One task owns the table of components. Children are waited for here alone, never by tokio: as the first
//! process of the namespace it inherits orphans (containerd's shims), whose ends only `waitpid(-1)` sees.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};

use crate::node::components::{Component, Prerequisite};
use crate::node::control::{Order, Response, Status, Verb};

/// Pause before a component that ended is started again, as a service manager's.
const RESTART_DELAY: Duration = Duration::from_secs(1);
/// Interval between two checks of prerequisites.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Maximum size of an order.
const MAX_ORDER_BYTES: u64 = 4096;
/// Time limit for receiving an order and responding to it.
const ORDER_WITHIN: Duration = Duration::from_secs(2);

/// Component with its state.
#[derive(Debug)]
struct Managed {
    component: Component,
    pid: Option<u32>,
    wanted: bool,
    not_before: Instant,
    starts: u32,
    ends: u32,
    last_end: Option<String>,
}

/// Table of components.
#[derive(Debug)]
struct Table(Vec<Managed>);

/// Keeps `components` running until this process is killed; each logs to a file of its own in `logs`.
///
/// # Errors
/// When the socket or the signal handlers cannot be set up.
pub(super) async fn run(components: Vec<Component>, socket: &Path, logs: &Path) -> Result<()> {
    let mut ended = signal(SignalKind::child()).context("SIGCHLD")?;
    let listener =
        UnixListener::bind(socket).with_context(|| format!("cannot listen on {}", socket.display()))?;
    let mut tick = tokio::time::interval(LOOK_EVERY);
    let mut table = Table::new(components, Instant::now());
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = ended.recv() => {}
            Ok((stream, _)) = listener.accept() => {
                let served = tokio::time::timeout(ORDER_WITHIN, serve(&mut table, stream)).await;
                if let Ok(Err(error)) = served {
                    eprintln!("order: {error:#}");
                }
            }
        }
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            table.note_end(pid.as_raw_nonzero().get().unsigned_abs(), status.as_raw(), Instant::now());
        }
        for index in table.due(Instant::now(), Prerequisite::is_met) {
            table.start(index, logs);
        }
    }
}

async fn serve(table: &mut Table, stream: UnixStream) -> Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(MAX_ORDER_BYTES)).read_line(&mut line).await?;
    let error = match serde_json::from_str::<Order>(&line) {
        Ok(order) => table.follow(&order, Instant::now()).err(),
        Err(error) => Some(format!("not an order: {error}")),
    };
    let mut answer = serde_json::to_vec(&Response { error, components: table.status() })?;
    answer.push(b'\n');
    write.write_all(&answer).await?;
    Ok(())
}

impl Table {
    fn new(components: Vec<Component>, now: Instant) -> Self {
        let managed = |component| Managed {
            component,
            pid: None,
            wanted: true,
            not_before: now,
            starts: 0,
            ends: 0,
            last_end: None,
        };
        Self(components.into_iter().map(managed).collect())
    }

    /// Returns the indices of the components to start now.
    fn due(&self, now: Instant, is_met: impl Fn(&Prerequisite) -> bool) -> Vec<usize> {
        let is_due = |managed: &Managed| {
            managed.wanted
                && managed.pid.is_none()
                && managed.not_before <= now
                && managed.component.after.iter().all(&is_met)
        };
        (0..self.0.len()).filter(|index| is_due(&self.0[*index])).collect()
    }

    fn start(&mut self, index: usize, logs: &Path) {
        let managed = &mut self.0[index];
        managed.starts += 1;
        match spawn(&managed.component, logs) {
            Ok(pid) => {
                println!("{}: started as {pid}", managed.component.name);
                managed.pid = Some(pid);
            }
            Err(error) => {
                eprintln!("{}: {error:#}", managed.component.name);
                managed.last_end = Some(format!("{error:#}"));
                managed.not_before = Instant::now() + RESTART_DELAY;
            }
        }
    }

    /// Records the end of a process. A process that is no component is an orphan, and is ignored.
    fn note_end(&mut self, pid: u32, raw_status: i32, now: Instant) {
        let Some(managed) = self.0.iter_mut().find(|managed| managed.pid == Some(pid)) else { return };
        let status = ExitStatus::from_raw(raw_status);
        println!("{}: ended, {status}", managed.component.name);
        managed.pid = None;
        managed.ends += 1;
        managed.last_end = Some(status.to_string());
        managed.not_before = now + RESTART_DELAY;
    }

    fn follow(&mut self, order: &Order, now: Instant) -> Result<(), String> {
        if order.verb == Verb::Status {
            return Ok(());
        }
        let names = || self.0.iter().map(|managed| managed.component.name).collect::<Vec<_>>().join(", ");
        let Some(index) = self.0.iter().position(|managed| managed.component.name == order.component) else {
            return Err(format!("no component {:?}; there are {}", order.component, names()));
        };
        let managed = &mut self.0[index];
        match order.verb {
            Verb::Status => {}
            Verb::Start => {
                managed.wanted = true;
                managed.not_before = now;
            }
            Verb::Stop => {
                managed.wanted = false;
                managed.pid.map(|pid| send(pid, Signal::TERM));
            }
            Verb::Kill => match managed.pid {
                Some(pid) => {
                    send(pid, Signal::KILL);
                }
                None => return Err(format!("{} does not run", order.component)),
            },
        }
        Ok(())
    }

    fn status(&self) -> Vec<Status> {
        let status = |managed: &Managed| Status {
            name: managed.component.name.to_owned(),
            pid: managed.pid,
            restarts: managed.starts.saturating_sub(1),
            last_end: managed.last_end.clone(),
        };
        self.0.iter().map(status).collect()
    }
}

fn spawn(component: &Component, logs: &Path) -> Result<u32> {
    let log = logs.join(format!("{}.log", component.name));
    let output = File::options().create(true).append(true).open(&log);
    let output = output.with_context(|| format!("cannot write {}", log.display()))?;
    // Dropping the handle does not end the process; `wait` above reaps it.
    let child = Command::new(&component.program)
        .args(&component.arguments)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .with_context(|| component.program.display().to_string())?;
    Ok(child.id())
}

/// Sends a signal to the process alone, not to its group: containerd's shims must outlive containerd.
fn send(pid: u32, signal: Signal) -> bool {
    i32::try_from(pid).ok().and_then(Pid::from_raw).is_some_and(|pid| kill_process(pid, signal).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(now: Instant) -> Table {
        let component =
            |name, after| Component { name, program: "/none".into(), arguments: Vec::new(), after };
        Table::new(
            vec![
                component("etcd", None),
                component("apiserver", Some(Prerequisite::Port("127.0.0.1:2379".parse().unwrap()))),
            ],
            now,
        )
    }

    fn order(verb: Verb, component: &str) -> Order {
        Order { verb, component: component.to_owned() }
    }

    #[test]
    fn a_component_waits_for_its_prerequisite() {
        let now = Instant::now();
        let table = table(now);
        assert_eq!(table.due(now, |_| false), [0]);
        assert_eq!(table.due(now, |_| true), [0, 1]);
    }

    #[test]
    fn a_component_that_ended_is_started_again_after_a_pause() {
        let now = Instant::now();
        let mut table = table(now);
        table.0[0].pid = Some(7);
        assert!(table.due(now, |_| false).is_empty());
        table.note_end(7, 9, now);
        assert!(table.due(now, |_| false).is_empty());
        assert_eq!(table.due(now + RESTART_DELAY, |_| false), [0]);
        assert_eq!(table.status()[0].last_end.as_deref(), Some("signal: 9 (SIGKILL)"));
    }

    #[test]
    fn an_orphan_that_ended_changes_nothing() {
        let now = Instant::now();
        let mut table = table(now);
        table.0[0].pid = Some(7);
        table.note_end(8, 0, now);
        assert_eq!(table.status()[0].pid, Some(7));
    }

    #[test]
    fn a_stopped_component_stays_ended_until_it_is_started() {
        let now = Instant::now();
        let mut table = table(now);
        table.follow(&order(Verb::Stop, "etcd"), now).unwrap();
        assert!(table.due(now + RESTART_DELAY, |_| false).is_empty());
        table.follow(&order(Verb::Start, "etcd"), now).unwrap();
        assert_eq!(table.due(now, |_| false), [0]);
    }

    #[test]
    fn an_unknown_component_is_refused_with_the_known_ones() {
        let now = Instant::now();
        let error = table(now).follow(&order(Verb::Kill, "kubelte"), now).unwrap_err();
        assert_eq!(error, "no component \"kubelte\"; there are etcd, apiserver");
    }
}
