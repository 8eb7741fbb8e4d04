//! Processes of the machine, identified by id and start time: the kernel reuses ids.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// How often a wait looks again.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// One process since the machine started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Process id.
    pub pid: u32,
    /// When it started, in clock ticks since the machine did.
    pub started_ticks: u64,
}

impl Identity {
    /// The process that has this id now.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Stat::parse(&stat).map(|stat| Self { pid, started_ticks: stat.started_ticks })
    }

    /// Whether this very process runs (a zombie does not).
    pub(crate) fn is_alive(self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid));
        let stat = stat.ok().as_deref().and_then(Stat::parse);
        stat.is_some_and(|stat| stat.started_ticks == self.started_ticks && !"ZX".contains(stat.state))
    }

    /// Sends a signal to this very process; `false` when it is gone.
    pub(crate) fn signal(self, signal: Signal) -> bool {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return false };
        // The descriptor stays with the process that had the id when it was opened, which is then looked at.
        pidfd_open(pid, PidfdFlags::empty())
            .is_ok_and(|fd| self.is_alive() && pidfd_send_signal(&fd, signal).is_ok())
    }

    /// Waits until it is gone; `false` when it is still there after `deadline`.
    pub(crate) fn wait_gone(self, deadline: Duration) -> bool {
        let start = Instant::now();
        while self.is_alive() {
            if start.elapsed() > deadline {
                return false;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        true
    }
}

/// Ids of all processes that this one can see.
pub(crate) fn all() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The children of `pid`.
pub(crate) fn children(pid: u32) -> Vec<Identity> {
    let is_child = |child: u32| {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
        let stat = Stat::parse(&stat)?;
        (stat.parent == pid).then_some(Identity { pid: child, started_ticks: stat.started_ticks })
    };
    all().into_iter().filter_map(is_child).collect()
}

/// Processes that have `variable` (`NAME=value`) in their environment, except this one.
pub(crate) fn with_variable(variable: &str) -> Vec<Identity> {
    let has = |pid: u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|found| found == variable.as_bytes())
    };
    let mut found: Vec<Identity> = Vec::new();
    for pid in all().into_iter().filter(|pid| *pid != std::process::id()) {
        // The start time first: were the id given out again in between, the signal would find nobody.
        let identity = Identity::of(pid);
        if has(pid) {
            found.extend(identity);
        }
    }
    found
}

/// Command lines of the processes that this one can see, by process id.
pub(crate) fn command_line(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim_end().to_owned()
}

/// The program of a process: the file name of what it was started as.
pub(crate) fn program(pid: u32) -> Option<String> {
    let target = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    target.file_name()?.to_str().map(ToOwned::to_owned)
}

/// What is needed of `/proc/PID/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    parent: u32,
    started_ticks: u64,
}

impl Stat {
    fn parse(line: &str) -> Option<Self> {
        // The command, in parentheses, may hold anything.
        let (_, rest) = line.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        // Field 22 of the line; the state is field 3.
        let started_ticks = fields.nth(17)?.parse().ok()?;
        Some(Self { state, parent, started_ticks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_parentheses_does_not_shift_the_fields() {
        let line = "7 (a) b (c) S 3 7 7 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 4711 100 200";
        assert_eq!(Stat::parse(line), Some(Stat { state: 'S', parent: 3, started_ticks: 4711 }));
    }

    #[test]
    fn a_process_id_that_was_given_out_again_is_another_process() {
        let own = Identity::of(std::process::id()).unwrap();
        assert!(own.is_alive());
        let earlier = Identity { started_ticks: own.started_ticks - 1, ..own };
        assert!(!earlier.is_alive());
        assert!(!earlier.signal(Signal::KILL));
    }

    #[test]
    fn a_marked_process_is_found_and_ended_and_others_are_not() {
        let mark = format!("a-test-of-{}", std::process::id());
        let mut child =
            std::process::Command::new("sleep").arg("60").env("SLUICE_TEST", &mark).spawn().unwrap();
        let variable = format!("SLUICE_TEST={mark}");
        let found = loop {
            // Between fork and exec the child has this process's environment.
            if let [found] = with_variable(&variable)[..] {
                break found;
            }
            std::thread::yield_now();
        };
        assert_eq!(found.pid, child.id());
        assert!(found.signal(Signal::KILL));
        assert!(!child.wait().unwrap().success());
        assert!(found.wait_gone(Duration::from_secs(5)));
    }
}
