//! Measures CPU time of processes in nanoseconds, from the scheduler's account of each thread. `/proc/PID/stat` counts
//! in hundredths of a second, which is half of the time that a proxy uses for thousands of requests.

use std::collections::BTreeMap;
use std::time::Duration;

/// CPU time of every thread of some processes, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CpuTime(BTreeMap<(u32, u32), u64>);

impl CpuTime {
    /// Reads the CPU time of these processes. A process that is gone has none.
    pub(crate) fn of(pids: impl IntoIterator<Item = u32>) -> Self {
        let mut threads = BTreeMap::new();
        for pid in pids {
            let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { continue };
            for task in tasks.flatten() {
                let Some(tid) = task.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                    continue;
                };
                let schedstat = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
                if let Some(ns) = schedstat.split_whitespace().next().and_then(|ns| ns.parse().ok()) {
                    threads.insert((pid, tid), ns);
                }
            }
        }
        Self(threads)
    }

    /// Returns the CPU time since `earlier`. The last share of a thread that ended in between is missing.
    pub(crate) fn since(&self, earlier: &Self) -> Duration {
        let used = |(thread, ns): (&(u32, u32), &u64)| {
            ns.saturating_sub(earlier.0.get(thread).copied().unwrap_or(0))
        };
        Duration::from_nanos(self.0.iter().map(used).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_shows_and_a_process_that_is_gone_does_not() {
        let own = std::process::id();
        let before = CpuTime::of([own]);
        let mut sum = 0_u64;
        // No time limit: it ends when the account has moved.
        while CpuTime::of([own]).since(&before) < Duration::from_millis(1) {
            sum = (0..10_000_u64).fold(sum, u64::wrapping_add);
        }
        assert_eq!(CpuTime::of([u32::MAX]), CpuTime::default());
    }

    #[test]
    fn threads_that_started_or_ended_in_between_count_for_what_is_known() {
        let earlier = CpuTime(BTreeMap::from([((1, 1), 100), ((1, 2), 50)]));
        let later = CpuTime(BTreeMap::from([((1, 1), 130), ((1, 3), 7)]));
        assert_eq!(later.since(&earlier), Duration::from_nanos(37));
    }
}
