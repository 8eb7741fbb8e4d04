//! Values of the metrics' label `model`. Names of models come from clients, and a series is never forgotten: so only
//! so many names get series of their own.

use std::collections::HashSet;
use std::sync::Arc;

/// Stands for all models that came after the last one with a label of its own.
pub const OTHER: &str = "other";

/// Longest name that a client may bring, in bytes: one that is longer gets neither a queue nor series of its own.
pub const MAX_NAME_BYTES: usize = 256;

/// The names that have series of their own.
#[derive(Debug)]
pub struct Labels {
    known: HashSet<Arc<str>>,
    limit: usize,
}

impl Labels {
    /// For at most so many models.
    pub fn new(limit: usize) -> Self {
        Self { known: HashSet::new(), limit }
    }

    /// The label of a model: its name, or [`OTHER`].
    pub fn of(&mut self, model: &Arc<str>) -> Arc<str> {
        if !self.known.contains(model) {
            if self.known.len() >= self.limit || model.len() > MAX_NAME_BYTES {
                return Arc::from(OTHER);
            }
            self.known.insert(Arc::clone(model));
        }
        Arc::clone(model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_clients_invent_get_no_more_series_than_the_limit() {
        let mut labels = Labels::new(2);
        let mut of = |model: &str| labels.of(&Arc::from(model)).to_string();
        assert_eq!(of("a"), "a");
        assert_eq!(of("b"), "b");
        assert!((0..1000).all(|number| of(&format!("invented-{number}")) == OTHER));
        assert_eq!(of("a"), "a", "the first ones keep theirs");
    }

    #[test]
    fn a_name_that_is_too_long_gets_no_series() {
        let mut labels = Labels::new(2);
        let longest = "m".repeat(MAX_NAME_BYTES);
        assert_eq!(&*labels.of(&Arc::from(format!("{longest}m"))), OTHER);
        assert_eq!(*labels.of(&Arc::from(&*longest)), longest);
    }
}
