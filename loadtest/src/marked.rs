//! Finds the processes of a run by a mark in their environment, whatever process started them, to count them during
//! the run and to end them after it.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Variable in the environment of every process of a run.
pub(crate) const MARK: &str = "SLUICE_RUN_MARK";
/// Looks for processes that were killed, until none is left.
const MOST_LOOKS: usize = 200;
/// Pause between two of them.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Process ids, with their command lines, that carry `run` as [`MARK`], except this process.
pub(crate) fn processes(run: &str) -> Vec<(u32, String)> {
    let wanted = format!("{MARK}={run}");
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != std::process::id())
        .filter(|pid| has_variable(*pid, wanted.as_bytes()))
        .map(|pid| (pid, command_line(pid)))
        .collect()
}

/// Ends what is still running, and waits until it is gone; returns what had to be ended.
pub(crate) fn end_processes(run: &str) -> Vec<(u32, String)> {
    let mut ended: Vec<(u32, String)> = Vec::new();
    // More than one look: a program may have started another one after it was seen.
    for _ in 0..MOST_LOOKS {
        let left = processes(run);
        if left.is_empty() {
            break;
        }
        for (pid, command) in left {
            signal(pid, Signal::KILL);
            if !ended.iter().any(|(known, _)| *known == pid) {
                ended.push((pid, command));
            }
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
    ended
}

/// Ends the processes of a run when it is dropped, so that not even a panic leaves them.
#[derive(Debug)]
pub(crate) struct Sweep(String);

impl Sweep {
    /// A guard for the run with this mark.
    pub(crate) fn of(run: &str) -> Self {
        Self(run.to_owned())
    }

    /// Ends them now; returns what had to be ended.
    pub(crate) fn end(self) -> Vec<(u32, String)> {
        end_processes(&self.0)
    }
}

impl Drop for Sweep {
    fn drop(&mut self) {
        end_processes(&self.0);
    }
}

/// Sends a signal to a process of a run; `false` when it is gone.
pub(crate) fn signal(pid: u32, signal: Signal) -> bool {
    i32::try_from(pid).ok().and_then(Pid::from_raw).is_some_and(|pid| kill_process(pid, signal).is_ok())
}

fn has_variable(pid: u32, wanted: &[u8]) -> bool {
    std::fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|environment| environment.split(|byte| *byte == 0).any(|variable| variable == wanted))
}

fn command_line(pid: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn marked_sleeper(run: &str) -> std::process::Child {
        let child = Command::new("sleep").arg("60").env(MARK, run).stdin(Stdio::null()).spawn().unwrap();
        // The child may still be between fork and exec, where it has this process's environment.
        while processes(run).is_empty() {
            std::thread::yield_now();
        }
        child
    }

    #[test]
    fn a_panic_in_mid_run_leaves_no_process() {
        let run = format!("panic-{}", std::process::id());
        let mut marked = marked_sleeper(&run);
        let panicked = std::panic::catch_unwind(|| {
            let _sweep = Sweep::of(&run);
            panic!("as a closed standard output does");
        });
        assert!(panicked.is_err());
        assert!(!marked.wait().unwrap().success());
        assert!(processes(&run).is_empty());
    }

    #[test]
    fn a_process_with_the_mark_is_found_and_ended_and_others_are_not() {
        let run = format!("test-{}", std::process::id());
        let mut marked = marked_sleeper(&run);
        assert!(processes("another-run").is_empty());
        let ended = end_processes(&run);
        assert_eq!(ended.iter().map(|(pid, _)| *pid).collect::<Vec<_>>(), [marked.id()]);
        assert!(!marked.wait().unwrap().success());
        assert!(processes(&run).is_empty());
    }
}
