//! Processes by /proc: who a pid is, and which process a claim's environment belongs to.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};
use sluice_config::names::env;

/// A process beyond doubt: pids are used again, a pid with a start time of one boot is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Process id, also of its process group.
    pub pid: i32,
    /// Start time, clock ticks since boot (field 22 of /proc/<pid>/stat).
    pub start_ticks: u64,
    /// Of which boot.
    pub boot_id: String,
}

impl Identity {
    /// Who has this pid now; `None` when nobody alive has.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub(super) fn of(pid: i32) -> io::Result<Option<Self>> {
        let Some(stat) = stat(pid)? else { return Ok(None) };
        Ok(Some(Self { pid, start_ticks: stat.start_ticks, boot_id: boot_id()? }))
    }

    /// Whether exactly this process is alive.
    pub(super) fn is_alive(&self) -> io::Result<bool> {
        let now = Self::of(self.pid)?;
        Ok(now.as_ref() == Some(self) && stat(self.pid)?.is_some_and(|stat| !stat.is_zombie))
    }
}

struct Stat {
    is_zombie: bool,
    group: i32,
    start_ticks: u64,
}

fn stat(pid: i32) -> io::Result<Option<Stat>> {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(text) => parse_stat(&text)
            .map(Some)
            .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat is not understood: {text:?}"))),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// ESRCH is what reading the file of a process says that ended in between.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

/// Fields are numbered from 1; the second is the command in parentheses and may contain anything.
fn parse_stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).copied();
    Some(Stat {
        is_zombie: matches!(field(3)?, "Z" | "X"),
        group: field(5)?.parse().ok()?,
        start_ticks: field(22)?.parse().ok()?,
    })
}

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Living processes that were started with this claim's environment: the model server itself and what it
/// has started. Those of other users, whose environment cannot be read, are not ours.
pub(super) fn processes_of_claim(claim_uid: &str) -> io::Result<Vec<(Identity, i32)>> {
    let wanted = format!("{}={claim_uid}", env::CLAIM_UID);
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { continue };
        if environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
            && let Some(stat) = stat(pid)?
            && !stat.is_zombie
            && let Some(identity) = Identity::of(pid)?
        {
            found.push((identity, stat.group));
        }
    }
    found.sort_by_key(|(identity, _)| identity.start_ticks);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let text = "42 (a) b) (c) S 1 40 40 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2\n";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.is_zombie, stat.group, stat.start_ticks), (false, 40, 98765));
        assert!(parse_stat("42 (a) S 1").is_none());
    }

    #[test]
    fn this_process_is_itself_and_nobody_else() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let myself = Identity::of(pid).unwrap().unwrap();
        assert!(myself.is_alive().unwrap());
        let former = Identity { start_ticks: myself.start_ticks + 1, ..myself.clone() };
        assert!(!former.is_alive().unwrap(), "the same pid with another start time");
        let rebooted = Identity { boot_id: "other".to_owned(), ..myself };
        assert!(!rebooted.is_alive().unwrap());
    }
}
