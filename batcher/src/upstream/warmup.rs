//! Decides when a model server is warm: each batch size that may be sent has been run until its time is stable.

use std::collections::BTreeMap;

/// Two times within this ratio of each other count as equal.
const STABLE_RATIO: f64 = 1.2;
/// Differences up to this count as noise of the machine, whatever the ratio.
const NOISE_SECONDS: f64 = 0.002;

/// Plan of a warm-up; says which batch size to run next. The largest comes first, because smaller sizes often share
/// what it allocates and compiles.
///
/// A size is stable when its last two times agree, or at once when it took no longer than the next larger
/// size that is already stable: a cold call would have taken longer, and time grows with rows.
#[derive(Debug, Clone)]
pub struct WarmupPlan {
    /// Sizes still to be warmed, ascending.
    left: Vec<u32>,
    max_calls: u32,
    calls: u32,
    last: Option<f64>,
    larger: Option<f64>,
    stable: BTreeMap<u32, f64>,
    refused: Option<u32>,
}

impl WarmupPlan {
    /// Creates a plan for these sizes (ascending), with at most `max_calls` calls for each.
    pub fn new(sizes: Vec<u32>, max_calls: u32) -> Self {
        Self {
            left: sizes,
            max_calls,
            calls: 0,
            last: None,
            larger: None,
            stable: BTreeMap::new(),
            refused: None,
        }
    }

    /// Returns the rows of the next call; `None` if the plan is finished.
    pub fn next_rows(&self) -> Option<u32> {
        self.left.last().copied()
    }

    /// Returns the largest size that the server accepted; 0 if it accepted none.
    pub fn accepted_rows(&self) -> u32 {
        self.stable.last_key_value().map_or(0, |(&rows, _)| rows)
    }

    /// Returns the smallest size that the server rejected; `None` if it rejected none.
    pub fn refused_rows(&self) -> Option<u32> {
        self.refused
    }

    /// Returns the stable times by size: rows and seconds.
    pub fn times(&self) -> impl Iterator<Item = (u32, f64)> + '_ {
        self.stable.iter().map(|(&rows, &seconds)| (rows, seconds))
    }

    /// Notes how long the call with [`WarmupPlan::next_rows`] rows took.
    pub fn took(&mut self, seconds: f64) {
        let Some(rows) = self.next_rows() else { return };
        self.calls += 1;
        let same = |a: f64, b: f64| (a - b).abs() <= NOISE_SECONDS || a.max(b) <= STABLE_RATIO * a.min(b);
        let stable = self.larger.is_some_and(|larger| seconds <= larger * STABLE_RATIO)
            || self.last.is_some_and(|last| same(last, seconds));
        if stable || self.calls >= self.max_calls {
            self.stable.insert(rows, seconds);
            self.larger = Some(seconds);
            self.left.pop();
            self.calls = 0;
            self.last = None;
        } else {
            self.last = Some(seconds);
        }
    }

    /// Notes that the server rejected a batch of this size (4xx): neither this size nor a larger one will be sent.
    pub fn refused(&mut self) {
        self.refused = self.left.pop();
        self.stable.clear();
        self.larger = None;
        self.last = None;
        self.calls = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a plan against a server of which call number n with b rows takes `time(b, n)`; returns the calls.
    fn run(plan: &mut WarmupPlan, time: impl Fn(u32, u32) -> Option<f64>) -> Vec<u32> {
        let mut calls = Vec::new();
        while let Some(rows) = plan.next_rows() {
            let before = calls.iter().filter(|&&other| other == rows).count() as u32;
            calls.push(rows);
            match time(rows, before) {
                Some(seconds) => plan.took(seconds),
                None => plan.refused(),
            }
        }
        calls
    }

    #[test]
    fn the_largest_size_is_run_first_and_until_it_is_stable() {
        let mut plan = WarmupPlan::new(vec![1, 4, 8], 16);
        let calls = run(&mut plan, |rows, before| {
            Some(
                0.01 + 0.001 * f64::from(rows)
                    + if before < 2 && rows == 8 { 0.3 / f64::from(before + 1) } else { 0.0 },
            )
        });
        assert_eq!(calls, [8, 8, 8, 8, 4, 1]);
        assert_eq!(plan.accepted_rows(), 8);
    }

    #[test]
    fn a_cold_call_of_a_smaller_size_is_repeated() {
        let mut plan = WarmupPlan::new(vec![1, 8], 16);
        let calls = run(&mut plan, |_, before| Some(if before == 0 { 0.5 } else { 0.02 }));
        assert_eq!(calls, [8, 8, 8, 1, 1, 1][..calls.len()]);
        assert!(calls.iter().filter(|&&rows| rows == 1).count() >= 2);
        assert!(plan.times().all(|(_, seconds)| seconds < 0.1));
    }

    #[test]
    fn a_time_that_never_settles_does_not_hold_the_barrier_for_ever() {
        let mut plan = WarmupPlan::new(vec![4], 5);
        let calls = run(&mut plan, |_, before| Some(0.1 * 2.0_f64.powi(before as i32)));
        assert_eq!(calls.len(), 5);
    }

    #[test]
    fn sizes_that_the_server_refuses_lower_the_largest_batch() {
        let mut plan = WarmupPlan::new(vec![1, 2, 4, 8], 16);
        run(&mut plan, |rows, _| (rows <= 2).then_some(0.01));
        assert_eq!(plan.accepted_rows(), 2);
        assert_eq!(plan.refused_rows(), Some(4));
    }

    #[test]
    fn a_server_that_refuses_even_one_row_has_no_warm_size() {
        let mut plan = WarmupPlan::new(vec![1, 2], 16);
        run(&mut plan, |_, _| None);
        assert_eq!(plan.accepted_rows(), 0);
    }
}
