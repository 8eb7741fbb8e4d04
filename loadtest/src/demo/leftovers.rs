//! What a run left behind: processes that carry its mark in their environment, and MIG instances that
//! still stand on the simulated GPUs. Both must be none.

use std::path::Path;

use rustix::process::Signal;

use super::process::signal;

/// Variable in the environment of every process of a run.
pub const MARK: &str = "SLUICE_DEMO_RUN";

/// Process ids, with their command lines, that carry `run` as [`MARK`], except this process.
pub fn processes(run: &str) -> Vec<(u32, String)> {
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

/// Ends what is still running; returns what had to be ended.
pub fn end_processes(run: &str) -> Vec<(u32, String)> {
    let left = processes(run);
    for (pid, _) in &left {
        signal(*pid, Signal::KILL);
    }
    left
}

/// Sockets below `dir` that still have a file.
pub fn sockets(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                Ok(_) if path.extension().is_some_and(|extension| extension == "sock") => {
                    found.push(path.display().to_string());
                }
                _ => {}
            }
        }
    }
    found.sort();
    found
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

    #[test]
    fn a_process_with_the_mark_is_found_and_ended_and_others_are_not() {
        let run = format!("test-{}", std::process::id());
        let mut marked =
            Command::new("sleep").arg("60").env(MARK, &run).stdin(Stdio::null()).spawn().unwrap();
        // The child may still be between fork and exec, where it has this process's environment.
        while processes(&run).is_empty() {
            std::thread::yield_now();
        }
        assert!(processes("another-run").is_empty());
        let ended = end_processes(&run);
        assert_eq!(ended.iter().map(|(pid, _)| *pid).collect::<Vec<_>>(), [marked.id()]);
        assert!(!marked.wait().unwrap().success());
        assert!(processes(&run).is_empty());
    }
}
