//! Values of the metrics' label `model`. Their number is limited, because each is a set of series. Models that the
//! settings name always have a label of their own.

use std::collections::HashMap;
use std::sync::Arc;

/// Label shared by all models that came after the limit was reached.
pub const OTHER: &str = "other";

/// Maximum length of a model name from a client, in bytes: a longer one gets neither a queue nor series of its own.
pub const MAX_NAME_BYTES: usize = 256;

/// The models that have a label of their own.
#[derive(Debug)]
pub struct Labels {
    /// Number of users of each label.
    known: HashMap<Arc<str>, usize>,
    limit: usize,
}

impl Labels {
    /// Creates an empty set. A model that the settings do not name gets a label only while there are fewer than
    /// `limit`.
    pub fn new(limit: usize) -> Self {
        Self { known: HashMap::new(), limit }
    }

    /// Adds a user of a model's label and returns the label: the model's name, or [`OTHER`].
    pub fn take(&mut self, model: &Arc<str>, is_named: bool) -> Arc<str> {
        let is_free = is_named || (self.known.len() < self.limit && model.len() <= MAX_NAME_BYTES);
        if !is_free && !self.known.contains_key(model) {
            return Arc::from(OTHER);
        }
        *self.known.entry(Arc::clone(model)).or_default() += 1;
        Arc::clone(model)
    }

    /// Removes a user of a label; returns true if it was the last one.
    pub fn free(&mut self, label: &str) -> bool {
        let Some(users) = self.known.get_mut(label) else { return false };
        *users = users.saturating_sub(1);
        let is_last = *users == 0;
        if is_last {
            self.known.remove(label);
        }
        is_last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_no_more_labels_than_the_limit_until_one_is_free() {
        let mut labels = Labels::new(2);
        let mut take = |model: &str| labels.take(&Arc::from(model), false).to_string();
        assert_eq!(take("a"), "a");
        assert_eq!(take("b"), "b");
        assert!((0..1000).all(|number| take(&format!("further-{number}")) == OTHER));
        assert_eq!(take("a"), "a", "the first ones keep theirs");
        assert!(!labels.free("a"), "it has two users");
        assert!(labels.free("a"));
        assert!(!labels.free("a") && !labels.free(OTHER));
        assert_eq!(&*labels.take(&Arc::from("c"), false), "c");
        assert_eq!(&*labels.take(&Arc::from("d"), false), OTHER);
        assert_eq!(&*labels.take(&Arc::from("named"), true), "named", "the settings' own always have one");
    }

    #[test]
    fn a_name_that_is_too_long_gets_no_series() {
        let mut labels = Labels::new(2);
        let longest = "m".repeat(MAX_NAME_BYTES);
        assert_eq!(&*labels.take(&Arc::from(format!("{longest}m")), false), OTHER);
        assert_eq!(*labels.take(&Arc::from(&*longest), false), longest);
    }
}
