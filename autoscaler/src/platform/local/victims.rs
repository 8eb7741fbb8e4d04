//! Chooses the replicas to stop on a scale-down (pure).

/// Replica that may be stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Its name.
    pub(super) name: String,
    /// Whether it takes traffic.
    pub(super) is_ready: bool,
    /// Order in which replicas were asked for; a later one has a larger number.
    pub(super) sequence: u64,
}

/// Returns the names of the `count` replicas to stop: first those that do not take traffic yet, then the newest.
pub(super) fn choose(mut candidates: Vec<Candidate>, count: usize) -> Vec<String> {
    candidates.sort_by_key(|candidate| (candidate.is_ready, std::cmp::Reverse(candidate.sequence)));
    candidates.into_iter().take(count).map(|candidate| candidate.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_serves_nobody_goes_first_then_the_newest() {
        let candidate =
            |name: &str, is_ready, sequence| Candidate { name: name.to_owned(), is_ready, sequence };
        let all = vec![
            candidate("old", true, 0),
            candidate("loading", false, 1),
            candidate("new", true, 2),
            candidate("loading later", false, 3),
        ];
        assert_eq!(choose(all.clone(), 3), ["loading later", "loading", "new"]);
        assert_eq!(choose(all, 9).len(), 4);
    }
}
