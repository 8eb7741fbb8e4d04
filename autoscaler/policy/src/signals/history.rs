//! Keeps the readings of a workload's batchers over time, bounded, and turns them into [`Signals`].

use std::collections::{BTreeMap, VecDeque};

use super::reading::{Buckets, Reading};
use crate::curve::Curve;
use crate::input::{Sample, Series, Signals};

/// Maximum samples of one counter, whatever the windows and the tick are.
const MOST_SAMPLES: usize = 4096;

/// Rows of the batch by whose time curves are compared.
const TYPICAL_ROWS: f64 = 8.0;

/// How long a [`History`] keeps its parts.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Time that counter samples are kept, milliseconds: the longest window over demand.
    pub keep_ms: u64,
    /// Window over which latency is measured, milliseconds.
    pub latency_window_ms: u64,
    /// Age beyond which a reading is ignored, milliseconds.
    pub stale_ms: u64,
}

/// A batcher that exists now.
#[derive(Debug, Clone, Copy)]
pub struct Presence<'a> {
    /// Name of the process; counters of different names are not mixed.
    pub name: &'a str,
    /// Whether it takes traffic, so that it must be readable. One that is still starting may not answer yet.
    pub is_required: bool,
    /// When its process started, milliseconds since 1970; `None` where that is not known.
    pub started_ms: Option<u64>,
}

/// Readings of all batchers of one workload.
///
/// Batchers come and go with their pods, and demand moves between them. To keep their sum right, the history adds
/// samples of its own: a process that started a moment ago had counted zero before, and the counter of a process
/// that is gone stays where it was.
#[derive(Debug)]
pub struct History {
    limits: Limits,
    /// Time of the first call of [`present`](Self::present); `None` before it.
    since_ms: Option<u64>,
    batchers: BTreeMap<String, BatcherHistory>,
}

/// Readings of one batcher.
#[derive(Debug, Default)]
struct BatcherHistory {
    /// Samples of the demand counter. It falls where the process restarted; the policy handles that.
    demand: VecDeque<Sample>,
    latest: Option<(u64, Reading)>,
    latency: VecDeque<(u64, Buckets)>,
    /// Whether the latest reading came from the second source.
    is_second: bool,
    /// Since when it must be readable; `None` where it need not be.
    required_since_ms: Option<u64>,
    started_ms: Option<u64>,
    is_gone: bool,
    /// Time of the newest reading.
    read_ms: Option<u64>,
}

impl History {
    /// Creates an empty history: without readings nothing scales down.
    pub fn new(limits: Limits) -> Self {
        Self { limits, since_ms: None, batchers: BTreeMap::new() }
    }

    /// Sets which batchers exist at `now_ms`. To be called before their readings are recorded.
    pub fn present(&mut self, now_ms: u64, batchers: &[Presence<'_>]) {
        self.since_ms.get_or_insert(now_ms);
        for (name, batcher) in &mut self.batchers {
            if !batchers.iter().any(|batcher| batcher.name == *name) {
                batcher.leave(now_ms);
            }
            batcher.forget(now_ms, self.limits);
        }
        let keep_ms = self.limits.keep_ms;
        let old = |read_ms: Option<u64>| read_ms.is_none_or(|at_ms| now_ms.saturating_sub(at_ms) > keep_ms);
        self.batchers.retain(|_, batcher| !(batcher.is_gone && old(batcher.read_ms)));
        for batcher in batchers {
            let known = self.batchers.entry(batcher.name.to_owned()).or_default();
            known.is_gone = false;
            known.started_ms = batcher.started_ms;
            if !batcher.is_required {
                known.required_since_ms = None;
                if old(known.read_ms) {
                    // It takes no traffic and has not answered: there is nothing to wait for.
                    known.demand.clear();
                }
            } else if known.required_since_ms.is_none() {
                known.required_since_ms = Some(now_ms);
            }
        }
    }

    /// Returns whether a reading of this batcher is expected: it must be readable, or was until recently.
    pub fn awaits(&self, batcher: &str) -> bool {
        let known = self.batchers.get(batcher);
        known.is_some_and(|batcher| batcher.required_since_ms.is_some() || !batcher.demand.is_empty())
    }

    /// Adds a reading of one batcher of the time `at_ms`; `is_second` = it came from the second source. A reading that is
    /// not newer than the last one is ignored.
    pub fn record(&mut self, batcher: &str, at_ms: u64, is_second: bool, reading: Reading) {
        let limits = self.limits;
        let since_ms = self.since_ms.unwrap_or(at_ms);
        let entry = self.batchers.entry(batcher.to_owned()).or_default();
        if entry.read_ms.is_some_and(|known| known >= at_ms) {
            return;
        }
        entry.read_ms = Some(at_ms);
        if let Some(value) = reading.demand_rows {
            entry.before_its_start(at_ms, since_ms.max(at_ms.saturating_sub(limits.keep_ms)));
            // Samples that were made up while it seemed to be gone give way to its own.
            while entry.demand.back().is_some_and(|sample| sample.at_ms >= at_ms) {
                entry.demand.pop_back();
            }
            entry.demand.push_back(Sample { at_ms, value });
        }
        entry.latency.push_back((at_ms, reading.latency.clone()));
        entry.latest = Some((at_ms, reading));
        entry.is_second = is_second;
        entry.forget(at_ms, limits);
    }

    /// Returns the signals at `now_ms`; `quantile` (0 to 1) is the objective's.
    pub fn signals(&self, now_ms: u64, quantile: f64) -> Signals {
        let fresh = |at_ms: u64| now_ms.saturating_sub(at_ms) <= self.limits.stale_ms;
        let latest: Vec<(u64, &Reading)> = self
            .batchers
            .values()
            .filter_map(|batcher| batcher.latest.as_ref())
            .filter(|(at_ms, _)| fresh(*at_ms))
            .map(|(at_ms, reading)| (*at_ms, reading))
            .collect();
        // A sum or a mean is as old as its oldest part.
        let combine = |part: fn(&Reading) -> Option<f64>, mean: bool| {
            let parts: Vec<(u64, f64)> =
                latest.iter().filter_map(|(at_ms, reading)| Some((*at_ms, part(reading)?))).collect();
            let at_ms = parts.iter().map(|(at_ms, _)| *at_ms).min()?;
            let sum: f64 = parts.iter().map(|(_, value)| value).sum();
            #[expect(clippy::cast_precision_loss, reason = "a handful of batchers")]
            let value = if mean { sum / parts.len() as f64 } else { sum };
            Some(Sample { at_ms, value })
        };
        Signals {
            demand_rows: self
                .batchers
                .iter()
                .filter_map(|(name, one)| one.series(name, self.is_missing(now_ms, one)))
                .collect(),
            curve: typical(latest.iter().filter_map(|(_, reading)| reading.curve).collect()),
            queue_rows: combine(|reading| reading.queue_rows, false),
            observed_quantile_ms: self.observed_quantile_ms(now_ms, quantile),
            attainment: combine(|reading| reading.attainment.filter(|ratio| !ratio.is_nan()), true),
            demand_latched: latest.iter().any(|(_, reading)| reading.demand_latched),
            second_source: self
                .batchers
                .iter()
                .filter(|(_, batcher)| batcher.is_second && batcher.read_ms.is_some_and(fresh))
                .map(|(name, _)| name.clone())
                .collect(),
        }
    }

    /// Returns whether a batcher that must be readable never was. One that joined later is given a third of `stale_ms`.
    fn is_missing(&self, now_ms: u64, batcher: &BatcherHistory) -> bool {
        let patience_ms = self.limits.stale_ms / 3;
        batcher.demand.is_empty()
            && batcher.required_since_ms.is_some_and(|since_ms| {
                Some(since_ms) == self.since_ms || now_ms.saturating_sub(since_ms) > patience_ms
            })
    }

    fn observed_quantile_ms(&self, now_ms: u64, quantile: f64) -> Option<Sample> {
        let mut observed = Buckets::default();
        let mut at_ms = None;
        for batcher in self.batchers.values() {
            let (Some((_, first)), Some((last_ms, last))) = (batcher.latency.front(), batcher.latency.back())
            else {
                continue;
            };
            if now_ms.saturating_sub(*last_ms) <= self.limits.stale_ms
                && let Some(between) = last.since(first)
            {
                observed.add(&between);
                at_ms = Some(at_ms.map_or(*last_ms, |oldest: u64| oldest.min(*last_ms)));
            }
        }
        Some(Sample { at_ms: at_ms?, value: observed.quantile(quantile)? * 1000.0 })
    }
}

impl BatcherHistory {
    /// Returns the demand series. One without a sample tells the policy that a batcher exists and cannot be read.
    fn series(&self, name: &str, is_missing: bool) -> Option<Series> {
        let samples: Vec<Sample> = self.demand.iter().copied().collect();
        (!samples.is_empty() || is_missing).then(|| Series { source: name.to_owned(), samples })
    }

    /// Marks the process as gone: its counter stays where it is.
    fn leave(&mut self, now_ms: u64) {
        self.is_gone = true;
        self.latest = None;
        self.latency.clear();
        self.required_since_ms = None;
        self.is_second = false;
        let last = self.demand.iter().rev().find(|sample| sample.value.is_finite()).copied();
        if let Some(Sample { at_ms, value }) = last.filter(|last| last.at_ms < now_ms) {
            // Of a run of equal samples the first and the last are enough.
            let is_continued = self.read_ms.is_some_and(|read_ms| at_ms > read_ms);
            if is_continued {
                self.demand.pop_back();
            }
            self.demand.push_back(Sample { at_ms: now_ms, value });
        }
    }

    /// Adds zero samples before the start of a process that started after `from_ms`: until then it had counted nothing.
    fn before_its_start(&mut self, at_ms: u64, from_ms: u64) {
        let Some(started_ms) = self.started_ms.filter(|_| self.demand.is_empty()) else { return };
        let started_ms = started_ms.min(at_ms.saturating_sub(1));
        if started_ms > from_ms {
            self.demand.push_back(Sample { at_ms: from_ms, value: 0.0 });
            self.demand.push_back(Sample { at_ms: started_ms, value: 0.0 });
        }
    }

    /// Drops samples and histograms that are older than their window.
    fn forget(&mut self, now_ms: u64, limits: Limits) {
        let old = |at_ms: u64, keep_ms: u64| now_ms.saturating_sub(at_ms) > keep_ms;
        // One sample older than the window stays, so that differences span the whole window.
        while self.demand.get(1).is_some_and(|sample| old(sample.at_ms, limits.keep_ms))
            || self.demand.len() > MOST_SAMPLES
        {
            self.demand.pop_front();
        }
        while self.latency.get(1).is_some_and(|(at_ms, _)| old(*at_ms, limits.latency_window_ms))
            || self.latency.len() > MOST_SAMPLES
        {
            self.latency.pop_front();
        }
    }
}

/// Picks one curve for all replicas, which are alike; `None` without curves.
///
/// A curve that was learned while its node was busy with something else must not count. So this takes the median of
/// the curves that were learned from at least half as many batches as the one with the most.
fn typical(mut curves: Vec<Curve>) -> Option<Curve> {
    let most = curves.iter().map(|curve| curve.samples).max()?;
    curves.retain(|curve| curve.samples >= most / 2);
    let time_ms = |curve: &Curve| curve.alpha_ms + TYPICAL_ROWS * curve.beta_ms;
    curves.sort_by(|a, b| time_ms(a).total_cmp(&time_ms(b)));
    // Of two it is the faster one: nothing makes a replica faster than it is.
    curves.get((curves.len() - 1) / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { keep_ms: 10_000, latency_window_ms: 5_000, stale_ms: 3_000 };

    fn demand(rows: f64) -> Reading {
        Reading { demand_rows: Some(rows), queue_rows: Some(1.0), ..Reading::default() }
    }

    fn batcher(name: &str) -> Presence<'_> {
        Presence { name, is_required: true, started_ms: None }
    }

    fn rate(history: &History, now_ms: u64) -> f64 {
        let windows = crate::Windows { demand_ms: 8_000, ..Default::default() };
        let series = history.signals(now_ms, 0.99).demand_rows;
        crate::demand::measure(&series, now_ms, &windows, 0).unwrap().rate
    }

    #[test]
    fn samples_older_than_the_longest_window_are_forgotten() {
        let mut history = History::new(LIMITS);
        for second in 0..100_u32 {
            history.record("gateway", u64::from(second) * 1000, false, demand(f64::from(second)));
        }
        let signals = history.signals(99_000, 0.99);
        assert_eq!(signals.demand_rows.len(), 1);
        assert_eq!(signals.demand_rows[0].samples.len(), 12, "and one before");
    }

    #[test]
    fn a_stale_reading_is_no_reading() {
        let mut history = History::new(LIMITS);
        history.record("gateway", 0, false, demand(1.0));
        assert!(history.signals(3000, 0.99).queue_rows.is_some());
        assert_eq!(history.signals(3001, 0.99).queue_rows, None);
    }

    #[test]
    fn a_page_without_demand_adds_no_sample() {
        let mut history = History::new(LIMITS);
        history.record("gateway", 0, false, Reading::default());
        assert!(history.signals(0, 0.99).demand_rows.is_empty());
    }

    #[test]
    fn nan_is_kept_for_the_policy_to_see() {
        let mut history = History::new(LIMITS);
        history.record("gateway", 0, false, demand(f64::NAN));
        assert!(history.signals(0, 0.99).demand_rows[0].samples[0].value.is_nan());
    }

    #[test]
    fn several_batchers_add_up() {
        let mut history = History::new(LIMITS);
        history.record("a", 1000, false, demand(1.0));
        history.record("b", 2000, true, demand(2.0));
        let signals = history.signals(2000, 0.99);
        let queue = signals.queue_rows.unwrap();
        assert_eq!((queue.at_ms, queue.value), (1000, 2.0));
        assert_eq!(signals.second_source, ["b"]);
    }

    /// Two batchers share 100 rows/s; one of them comes later, or goes.
    #[test]
    fn demand_that_moves_between_batchers_is_neither_lost_nor_counted_twice() {
        let mut history = History::new(LIMITS);
        let [a, b] = ["a", "b"].map(batcher);
        let b = Presence { started_ms: Some(19_500), ..b };
        let mut rows = (0.0, 0.0);
        for second in 0..60_u64 {
            let now_ms = second * 1000;
            let both = (20..40).contains(&second);
            rows.0 += if both { 50.0 } else { 100.0 };
            rows.1 += if both { 50.0 } else { 0.0 };
            let there = if both { vec![a, b] } else { vec![a] };
            history.present(now_ms, &there);
            history.record("a", now_ms, false, demand(rows.0));
            if both {
                history.record("b", now_ms, false, demand(rows.1));
            }
            if second >= 9 {
                let rate = rate(&history, now_ms);
                assert!((rate - 100.0).abs() < 8.0, "{rate} at {second}");
            }
        }
        assert_eq!(history.signals(59_000, 0.99).demand_rows.len(), 1, "b is forgotten");
    }

    #[test]
    fn a_batcher_that_takes_traffic_and_was_never_readable_is_missing() {
        let mut history = History::new(LIMITS);
        history.present(0, &[batcher("a"), batcher("b")]);
        history.record("a", 0, false, demand(1.0));
        let missing = |history: &History, now_ms: u64| {
            let series = history.signals(now_ms, 0.99).demand_rows;
            series.into_iter().filter(|series| series.samples.is_empty()).count()
        };
        assert_eq!(missing(&history, 0), 1, "a batcher of the first look is missing at once");
        history.record("b", 1, false, demand(1.0));
        assert_eq!(missing(&history, 1), 0);
        let starting = Presence { is_required: false, ..batcher("c") };
        history.present(1000, &[batcher("a"), batcher("b"), starting]);
        assert_eq!(missing(&history, 20_000), 0, "one that is starting may be silent");
        history.record("a", 20_000, false, demand(2.0));
        history.record("b", 20_000, false, demand(2.0));
        history.present(20_000, &[batcher("a"), batcher("b"), batcher("c")]);
        assert_eq!(missing(&history, 21_000), 0, "one that joined later is given a moment");
        assert_eq!(missing(&history, 21_001), 1);
    }

    #[test]
    fn one_replica_on_a_busy_node_does_not_speak_for_the_others() {
        let curve =
            |alpha_ms: f64, samples: u64| Curve { alpha_ms, beta_ms: 1.0, batch_rows_limit: 8, samples };
        let chosen = |curves: &[Curve]| typical(curves.to_vec()).map(|curve| curve.alpha_ms);
        assert_eq!(chosen(&[]), None);
        assert_eq!(chosen(&[curve(140.0, 256)]), Some(140.0));
        assert_eq!(chosen(&[curve(140.0, 256), curve(30.0, 256)]), Some(30.0));
        assert_eq!(chosen(&[curve(31.0, 200), curve(140.0, 256), curve(30.0, 256)]), Some(31.0));
        assert_eq!(
            chosen(&[curve(40.0, 256), curve(30.0, 9)]),
            Some(40.0),
            "one that has just started to learn does not count"
        );
    }

    #[test]
    fn what_is_not_newer_adds_nothing() {
        let mut history = History::new(LIMITS);
        history.record("a", 2000, false, demand(5.0));
        history.record("a", 2000, true, demand(4.0));
        history.record("a", 1000, true, demand(3.0));
        let signals = history.signals(2000, 0.99);
        assert_eq!(signals.demand_rows[0].samples.len(), 1);
        assert!(signals.second_source.is_empty());
    }
}
