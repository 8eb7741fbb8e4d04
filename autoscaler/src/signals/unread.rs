//! Tracks which batchers cannot be read and why, so that the log names each when it begins, not at every tick.

use std::collections::BTreeMap;

/// Shortest time between two warnings about the same batcher, milliseconds.
const WARN_EVERY_MS: u64 = 60_000;

/// Batchers of one target that could not be read.
#[derive(Debug, Default)]
pub(crate) struct UnreadBatchers {
    /// Time of the last warning, by batcher.
    warned_ms: BTreeMap<String, u64>,
    /// Failures of this tick: batcher and error.
    now: Vec<(String, String)>,
}

impl UnreadBatchers {
    /// Begins a tick. Forgets the warnings about batchers that do not exist any more.
    pub(crate) fn begin(&mut self, exists: impl Fn(&str) -> bool) {
        self.now.clear();
        self.warned_ms.retain(|batcher, _| exists(batcher));
    }

    /// Adds a batcher that could not be read. Returns whether that deserves a warning now.
    pub(crate) fn failed(&mut self, now_ms: u64, batcher: &str, why: &str) -> bool {
        self.now.push((batcher.to_owned(), why.to_owned()));
        let warned = self.warned_ms.get(batcher);
        let is_new = warned.is_none_or(|warned_ms| now_ms.saturating_sub(*warned_ms) >= WARN_EVERY_MS);
        if is_new {
            self.warned_ms.insert(batcher.to_owned(), now_ms);
        }
        is_new
    }

    /// Returns a sentence about the first failure of this tick and the number of others; `None` where all could be read.
    pub(crate) fn sentence(&self) -> Option<String> {
        let (batcher, why) = self.now.first()?;
        let others = self.now.len() - 1;
        let more =
            if others > 0 { format!(" {others} more could not be read either.") } else { String::new() };
        Some(format!("{batcher} could not be read: {}.{more}", why.trim_end_matches(['.', '?'])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batcher_is_warned_about_once_a_minute_and_named_for_as_long_as_it_lasts() {
        let mut unread = UnreadBatchers::default();
        let mut warnings = 0;
        for second in 0..90 {
            unread.begin(|_| true);
            assert_eq!(unread.sentence(), None);
            warnings += u32::from(unread.failed(second * 1000, "a", "no answer"));
            warnings += u32::from(unread.failed(second * 1000, "b", "no answer"));
            assert_eq!(
                unread.sentence().unwrap(),
                "a could not be read: no answer. 1 more could not be read either."
            );
        }
        assert_eq!(warnings, 4, "each in the first and in the 61st second");
        unread.begin(|_| false);
        assert!(unread.failed(90_000, "a", "x"), "one that comes back is warned about at once");
    }
}
