//! Which batchers cannot be read and why: said when it begins, not at every tick (pure).

use std::collections::BTreeMap;

/// The same batcher is told of in the log at most this often, milliseconds.
const SAME_EVERY_MS: u64 = 60_000;

/// What could not be read of one target.
#[derive(Debug, Default)]
pub struct Unread {
    /// By batcher.
    told_ms: BTreeMap<String, u64>,
    /// Of this tick: batcher and why.
    now: Vec<(String, String)>,
}

impl Unread {
    /// A tick begins; what was told of others than these batchers is forgotten.
    pub fn begin(&mut self, is_known: impl Fn(&str) -> bool) {
        self.now.clear();
        self.told_ms.retain(|batcher, _| is_known(batcher));
    }

    /// A batcher that should be readable is not. Whether it is to be told.
    pub fn failed(&mut self, now_ms: u64, batcher: &str, why: &str) -> bool {
        self.now.push((batcher.to_owned(), why.to_owned()));
        let told = self.told_ms.get(batcher);
        let is_new = told.is_none_or(|told_ms| now_ms.saturating_sub(*told_ms) >= SAME_EVERY_MS);
        if is_new {
            self.told_ms.insert(batcher.to_owned(), now_ms);
        }
        is_new
    }

    /// The first one of this tick and how many others there are, as a sentence; `None` = all could be read.
    pub fn sentence(&self) -> Option<String> {
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
    fn a_batcher_is_told_of_once_a_minute_and_named_for_as_long_as_it_lasts() {
        let mut unread = Unread::default();
        let mut told = 0;
        for second in 0..90 {
            unread.begin(|_| true);
            assert_eq!(unread.sentence(), None);
            told += u32::from(unread.failed(second * 1000, "a", "no answer"));
            told += u32::from(unread.failed(second * 1000, "b", "no answer"));
            assert_eq!(
                unread.sentence().unwrap(),
                "a could not be read: no answer. 1 more could not be read either."
            );
        }
        assert_eq!(told, 4, "each in the first and in the 61st second");
        unread.begin(|_| false);
        assert!(unread.failed(90_000, "a", "x"), "one that came back is another");
    }
}
