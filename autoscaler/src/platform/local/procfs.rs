//! Processes as /proc shows them: the identity of a pid, and the processes that have a claim's environment.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};
use sluice_config::names::env;

/// Unique identity of a process: a pid can be reused, but not together with its start time in the same boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Process id, also of its process group.
    pub pid: i32,
    /// Start time, clock ticks since boot (field 22 of /proc/<pid>/stat).
    pub start_ticks: u64,
    /// Id of the boot in which the process was started.
    pub boot_id: String,
}

impl Identity {
    /// Returns the identity of the process that has this pid now; `None` where no process has it.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub(super) fn of(pid: i32) -> io::Result<Option<Self>> {
        let Some(stat) = stat(pid)? else { return Ok(None) };
        Ok(Some(Self { pid, start_ticks: stat.start_ticks, boot_id: boot_id()? }))
    }

    /// Returns whether exactly this process is alive.
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

/// Returns whether an error means that the process has ended: ESRCH comes where it ends while its file is read.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

/// Parses `/proc/<pid>/stat`. Fields are numbered from 1; the second is the command in parentheses, which may contain
/// any characters.
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

/// Returns the living processes that were started with this claim's environment, each with its process group: the model
/// server and the processes that it has started. Processes whose environment cannot be read belong to other users, and
/// are left out.
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
