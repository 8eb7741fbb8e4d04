//! Shares the disk among decision logs, and chooses files to remove when all together would exceed the limit (pure).
//!
//! Each log has two files: the current one and the previous one. A current file is ended when it reaches its share of half
//! of the limit, so the current ones alone always fit; of the previous ones the largest is removed first.

use std::collections::BTreeMap;

/// Files take whole blocks of the disk.
const BLOCK_BYTES: u64 = 4096;

/// One of the two files of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// File that is written.
    Current,
    /// Previous file.
    Before,
}

/// What to do before a line is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Plan {
    /// Whether the current file becomes the previous one.
    pub(super) ends_current: bool,
    /// Files to remove, by the log's name.
    pub(super) remove: Vec<(String, Part)>,
    /// Whether the line may then be written.
    pub(super) fits: bool,
}

/// Sizes of all logs, and their bound.
#[derive(Debug)]
pub(super) struct Budget {
    most_bytes: u64,
    logs: BTreeMap<String, Log>,
    /// Bytes of disk of all logs together.
    on_disk: u64,
    /// Number of logs that are being written.
    open: u64,
}

#[derive(Debug, Default)]
struct Log {
    current_bytes: u64,
    before_bytes: u64,
    /// Whether it is being written.
    is_open: bool,
}

impl Log {
    fn on_disk(&self) -> u64 {
        on_disk(self.current_bytes) + on_disk(self.before_bytes)
    }
}

fn on_disk(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK_BYTES) * BLOCK_BYTES
}

impl Budget {
    /// Creates a budget that limits all logs together to `most_bytes` of disk.
    pub(super) fn new(most_bytes: u64) -> Self {
        Self { most_bytes, logs: BTreeMap::new(), on_disk: 0, open: 0 }
    }

    /// Sets the size of a file.
    pub(super) fn found(&mut self, log: &str, part: Part, bytes: u64) {
        let log = self.logs.entry(log.to_owned()).or_default();
        let known = match part {
            Part::Current => std::mem::replace(&mut log.current_bytes, bytes),
            Part::Before => std::mem::replace(&mut log.before_bytes, bytes),
        };
        self.on_disk = self.on_disk + on_disk(bytes) - on_disk(known);
    }

    /// Sets whether a log is being written.
    pub(super) fn set_open(&mut self, log: &str, is_open: bool) {
        let log = self.logs.entry(log.to_owned()).or_default();
        self.open = self.open + u64::from(is_open) - u64::from(log.is_open);
        log.is_open = is_open;
    }

    /// Removes and returns the logs that are neither being written nor wanted any more.
    pub(super) fn take_unwanted(&mut self, is_wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let gone = self.logs.extract_if(.., |name, log| !log.is_open && !is_wanted(name));
        let on_disk = &mut self.on_disk;
        gone.map(|(name, log)| {
            *on_disk -= log.on_disk();
            name
        })
        .collect()
    }

    /// Plans to write `bytes` more to the log.
    pub(super) fn write(&mut self, name: &str, bytes: u64) -> Plan {
        let mut plan = Plan::default();
        let most_of_current = self.most_bytes / 2 / self.open.max(1);
        let mut current_bytes = self.logs.get(name).map_or(0, |log| log.current_bytes);
        if current_bytes > 0 && on_disk(current_bytes + bytes) > most_of_current {
            plan.ends_current = true;
            self.found(name, Part::Before, current_bytes);
            self.found(name, Part::Current, 0);
            current_bytes = 0;
        }
        let more = on_disk(current_bytes + bytes) - on_disk(current_bytes);
        plan.remove = self.make_room(more);
        plan.fits = self.on_disk + more <= self.most_bytes;
        if plan.fits {
            self.found(name, Part::Current, current_bytes + bytes);
        }
        plan
    }

    /// Removes and returns files until `more` bytes fit, as far as files may be removed.
    pub(super) fn make_room(&mut self, more: u64) -> Vec<(String, Part)> {
        let mut removed = Vec::new();
        while self.on_disk + more > self.most_bytes {
            let may_go = self.logs.iter().flat_map(|(name, log)| {
                let current = if log.is_open { 0 } else { log.current_bytes };
                [(current, name, Part::Current), (log.before_bytes, name, Part::Before)]
            });
            let largest = may_go.filter(|(bytes, ..)| *bytes > 0).max_by_key(|(bytes, ..)| *bytes);
            let Some((name, part)) = largest.map(|(_, name, part)| (name.clone(), part)) else { break };
            self.found(&name, part, 0);
            removed.push((name, part));
        }
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_largest_file_goes_first_and_a_file_that_is_written_never() {
        let mut budget = Budget::new(10 * BLOCK_BYTES);
        for (name, part, blocks) in
            [("a", Part::Current, 3), ("a", Part::Before, 2), ("b", Part::Current, 1), ("b", Part::Before, 4)]
        {
            budget.found(name, part, blocks * BLOCK_BYTES);
            budget.set_open(name, true);
        }
        let removed = budget.make_room(4 * BLOCK_BYTES);
        assert_eq!(removed, [("b".to_owned(), Part::Before)]);
        assert_eq!(budget.make_room(9 * BLOCK_BYTES), [("a".to_owned(), Part::Before)], "no more may go");
        budget.set_open("a", false);
        assert_eq!(budget.make_room(9 * BLOCK_BYTES), [("a".to_owned(), Part::Current)]);
    }

    #[test]
    fn a_log_that_is_not_wanted_goes_unless_it_is_written() {
        let mut budget = Budget::new(1 << 20);
        for name in ["a", "b", "c"] {
            budget.found(name, Part::Current, 10);
        }
        budget.set_open("b", true);
        assert_eq!(budget.take_unwanted(|name| name == "c"), ["a"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn whoever_writes_how_much_all_together_stay_within_the_bound(
            found in proptest::collection::vec((0_u8..6, any::<bool>(), 0_u64..200_000), 0..12),
            writes in proptest::collection::vec((0_u8..40, 1_u64..30_000), 1..300),
        ) {
            let most_bytes = 1 << 20;
            let mut budget = Budget::new(most_bytes);
            for (name, is_current, bytes) in found {
                let part = if is_current { Part::Current } else { Part::Before };
                budget.found(&name.to_string(), part, bytes);
            }
            budget.make_room(0);
            for (name, bytes) in writes {
                let name = name.to_string();
                budget.set_open(&name, true);
                let plan = budget.write(&name, bytes);
                prop_assert!(budget.on_disk <= most_bytes);
                prop_assert_eq!(budget.on_disk, budget.logs.values().map(Log::on_disk).sum::<u64>());
                prop_assert!(plan.fits, "forty logs have room for a line each");
            }
        }
    }
}
