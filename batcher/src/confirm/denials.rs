//! Denials of models, remembered for a short while: a client that repeats the name of a model that does not exist
//! causes no further questions to the model servers.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::Denial;

/// Maximum number of names that are remembered; a further one replaces the oldest.
const MOST: usize = 1024;
/// Time for which a denial is remembered, in microseconds. A model that is loaded meanwhile goes unnoticed for as long.
const REMEMBERED_US: u64 = 1_000_000;

/// The remembered denials.
#[derive(Debug, Default)]
pub(super) struct Denials {
    by_name: HashMap<Arc<str>, Remembered>,
    order: VecDeque<(Arc<str>, u64)>,
}

#[derive(Debug)]
struct Remembered {
    denial: Arc<Denial>,
    until_us: u64,
    /// Fingerprint of the model servers that were asked.
    servers: u64,
}

impl Denials {
    /// Returns the denial of a model if it is remembered and came from these `servers` (their fingerprint).
    pub(super) fn get(&self, model: &str, servers: u64, now_us: u64) -> Option<Arc<Denial>> {
        let known = self.by_name.get(model)?;
        (known.servers == servers && now_us < known.until_us).then(|| Arc::clone(&known.denial))
    }

    /// Remembers a denial.
    pub(super) fn insert(&mut self, model: &Arc<str>, denial: Arc<Denial>, servers: u64, now_us: u64) {
        while self.order.front().is_some_and(|(_, until_us)| *until_us <= now_us || self.order.len() >= MOST)
        {
            let Some((oldest, until_us)) = self.order.pop_front() else { break };
            // It may have been denied again since.
            if self.by_name.get(&oldest).is_some_and(|known| known.until_us == until_us) {
                self.by_name.remove(&oldest);
            }
        }
        let until_us = now_us.saturating_add(REMEMBERED_US);
        self.by_name.insert(Arc::clone(model), Remembered { denial, until_us, servers });
        self.order.push_back((Arc::clone(model), until_us));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denial() -> Arc<Denial> {
        Arc::new(Denial::default())
    }

    #[test]
    fn a_denial_is_remembered_for_a_while_and_of_the_same_servers_alone() {
        let mut denials = Denials::default();
        denials.insert(&"m".into(), denial(), 7, 0);
        assert!(denials.get("m", 7, REMEMBERED_US - 1).is_some());
        assert!(denials.get("m", 7, REMEMBERED_US).is_none());
        assert!(denials.get("m", 8, 1).is_none() && denials.get("other", 7, 1).is_none());
    }

    #[test]
    fn any_number_of_names_takes_no_more_room_than_there_is() {
        let mut denials = Denials::default();
        for number in 0..10 * MOST as u64 {
            denials.insert(&format!("invented-{number}").into(), denial(), 7, number);
            denials.insert(&"again".into(), denial(), 7, number);
            assert!(denials.by_name.len() <= MOST && denials.order.len() <= MOST);
        }
        assert!(denials.get("again", 7, 10 * MOST as u64).is_some());
        denials.insert(&"last".into(), denial(), 7, u64::MAX / 2);
        assert_eq!((denials.by_name.len(), denials.order.len()), (1, 1), "the others are too old");
    }
}
