//! The limit of open files: each connection is one.

use std::sync::OnceLock;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

/// The limit that this process was started with, once it was raised.
static BEFORE: OnceLock<Rlimit> = OnceLock::new();

/// Raises the limit of open files to the most that this process may have (the hard limit), and logs what came of it.
/// Many systems start processes with 1024, which a few hundred clients use up.
pub fn raise_limit() {
    let before = getrlimit(Resource::Nofile);
    if before.current == before.maximum {
        tracing::info!(limit = %Shown(before.current), "The limit of open files is as high as it may be.");
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: before.maximum, maximum: before.maximum }) {
        Ok(()) => {
            tracing::info!(
                from = %Shown(before.current),
                to = %Shown(before.maximum),
                "The limit of open files was raised."
            );
            // Raised twice, the first value is the one that others are to have.
            let _ = BEFORE.set(before);
        }
        Err(error) => tracing::warn!(
            limit = %Shown(before.current),
            wanted = %Shown(before.maximum),
            %error,
            "The limit of open files could not be raised; set it where the process is started (ulimit -n, LimitNOFILE)."
        ),
    }
}

/// Gives a child process the limit that this process was started with: programs that close every file that they might
/// have, or that ask `select` for them, do badly with a large one.
pub fn give_back(child: u32) {
    let pid = i32::try_from(child).ok().and_then(Pid::from_raw);
    if let (Some(before), Some(pid)) = (BEFORE.get(), pid)
        && let Err(error) = prlimit(Some(pid), Resource::Nofile, *before)
    {
        tracing::debug!(child, %error, "A child keeps the raised limit of open files.");
    }
}

/// Returns how many files this process may have open now; `None` without a limit.
pub fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// A limit for people.
struct Shown(Option<u64>);

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(limit) => write!(f, "{limit}"),
            None => f.write_str("unlimited"),
        }
    }
}
