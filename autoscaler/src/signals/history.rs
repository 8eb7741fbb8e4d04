//! Readings over time, bounded, as the policy wants them.

use std::collections::{BTreeMap, VecDeque};

use sluice_scaling_policy::{Curve, Sample, Series, Signals};

use super::reading::{Buckets, Reading};
use crate::platform::Batcher;

/// Most samples that are kept of one counter, whatever the windows and the tick are.
const MOST_SAMPLES: usize = 4096;

/// Curves are compared by the time of a batch of so many rows.
const TYPICAL_ROWS: f64 = 8.0;

/// How long what is kept.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Counter samples are kept this long, milliseconds: the longest window over demand.
    pub keep_ms: u64,
    /// Latency is measured over the requests of this time, milliseconds.
    pub latency_window_ms: u64,
    /// A reading older than this is no reading, milliseconds.
    pub stale_ms: u64,
}

/// Readings of all batchers of one workload.
///
/// Batchers come and go with their pods, and demand moves between them. So that their sum stays right,
/// what is known beside the readings is written down as samples too: a process that started a moment ago
/// had counted nothing before, and one that is gone counts no further.
#[derive(Debug)]
pub struct History {
    limits: Limits,
    /// When it was first told who there is.
    since_ms: Option<u64>,
    sources: BTreeMap<String, BatcherHistory>,
}

#[derive(Debug, Default)]
struct BatcherHistory {
    /// Of the demand counter. It may fall when its process began anew: the policy knows what that means.
    demand: VecDeque<Sample>,
    latest: Option<(u64, Reading)>,
    latency: VecDeque<(u64, Buckets)>,
    /// Whether the latest reading is the second source's.
    is_second: bool,
    /// Since when it must be readable; `None` = it need not be.
    required_since_ms: Option<u64>,
    started_ms: Option<u64>,
    is_gone: bool,
    /// Time of the newest reading.
    read_ms: Option<u64>,
}

impl History {
    /// Empty: nothing is known, so nothing scales down.
    pub fn new(limits: Limits) -> Self {
        Self { limits, since_ms: None, sources: BTreeMap::new() }
    }

    /// Takes in who there is at `now_ms`, before their readings.
    pub fn present(&mut self, now_ms: u64, batchers: &[Batcher]) {
        self.since_ms.get_or_insert(now_ms);
        for (name, source) in &mut self.sources {
            if !batchers.iter().any(|batcher| batcher.name == *name) {
                source.leave(now_ms);
            }
            source.forget(now_ms, self.limits);
        }
        let keep_ms = self.limits.keep_ms;
        let old = |read_ms: Option<u64>| read_ms.is_none_or(|at_ms| now_ms.saturating_sub(at_ms) > keep_ms);
        self.sources.retain(|_, source| !(source.is_gone && old(source.read_ms)));
        for batcher in batchers {
            let source = self.sources.entry(batcher.name.clone()).or_default();
            source.is_gone = false;
            source.started_ms = batcher.started_ms;
            if !batcher.is_required {
                source.required_since_ms = None;
                if old(source.read_ms) {
                    // It takes no traffic and does not answer: nothing to wait for.
                    source.demand.clear();
                }
            } else if source.required_since_ms.is_none() {
                source.required_since_ms = Some(now_ms);
            }
        }
    }

    /// Whether readings of this batcher are awaited: it must be readable, or it was until recently.
    pub fn awaits(&self, source: &str) -> bool {
        let known = self.sources.get(source);
        known.is_some_and(|source| source.required_since_ms.is_some() || !source.demand.is_empty())
    }

    /// Adds what one batcher said at `at_ms`; `is_second`: from the second source. What is not newer than
    /// what is known adds nothing.
    pub fn record(&mut self, source: &str, at_ms: u64, is_second: bool, reading: Reading) {
        let limits = self.limits;
        let since_ms = self.since_ms.unwrap_or(at_ms);
        let entry = self.sources.entry(source.to_owned()).or_default();
        if entry.read_ms.is_some_and(|known| known >= at_ms) {
            return;
        }
        entry.read_ms = Some(at_ms);
        if let Some(value) = reading.demand_rows {
            entry.before_its_start(at_ms, since_ms.max(at_ms.saturating_sub(limits.keep_ms)));
            // What was continued while it was thought to be gone gives way to what it says itself.
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

    /// What is known at `now_ms`. `quantile` (0..1) is the objective's.
    pub fn signals(&self, now_ms: u64, quantile: f64) -> Signals {
        let fresh = |at_ms: u64| now_ms.saturating_sub(at_ms) <= self.limits.stale_ms;
        let latest: Vec<(u64, &Reading)> = self
            .sources
            .values()
            .filter_map(|source| source.latest.as_ref())
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
                .sources
                .iter()
                .filter_map(|(name, source)| source.series(name, self.is_missing(now_ms, source)))
                .collect(),
            curve: typical(latest.iter().filter_map(|(_, reading)| reading.curve).collect()),
            queue_rows: combine(|reading| reading.queue_rows, false),
            observed_quantile_ms: self.observed_quantile_ms(now_ms, quantile),
            attainment: combine(|reading| reading.attainment.filter(|ratio| !ratio.is_nan()), true),
            demand_latched: latest.iter().any(|(_, reading)| reading.demand_latched),
            second_source: self
                .sources
                .iter()
                .filter(|(_, source)| source.is_second && source.read_ms.is_some_and(fresh))
                .map(|(name, _)| name.clone())
                .collect(),
        }
    }

    /// Whether a batcher that must be readable never was. Who joined later is given a moment.
    fn is_missing(&self, now_ms: u64, source: &BatcherHistory) -> bool {
        let patience_ms = self.limits.stale_ms / 3;
        source.demand.is_empty()
            && source.required_since_ms.is_some_and(|since_ms| {
                Some(since_ms) == self.since_ms || now_ms.saturating_sub(since_ms) > patience_ms
            })
    }

    fn observed_quantile_ms(&self, now_ms: u64, quantile: f64) -> Option<Sample> {
        let mut observed = Buckets::default();
        let mut at_ms = None;
        for source in self.sources.values() {
            let (Some((_, first)), Some((last_ms, last))) = (source.latency.front(), source.latency.back())
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
    /// A series without a sample tells the policy that a batcher is there and not known.
    fn series(&self, name: &str, is_missing: bool) -> Option<Series> {
        let samples: Vec<Sample> = self.demand.iter().copied().collect();
        (!samples.is_empty() || is_missing).then(|| Series { source: name.to_owned(), samples })
    }

    /// Its process is gone, so its counter stays where it is.
    fn leave(&mut self, now_ms: u64) {
        self.is_gone = true;
        self.latest = None;
        self.latency.clear();
        self.required_since_ms = None;
        self.is_second = false;
        let last = self.demand.iter().rev().find(|sample| sample.value.is_finite()).copied();
        if let Some(Sample { at_ms, value }) = last.filter(|last| last.at_ms < now_ms) {
            // Of a run of equal samples the first and the last say it all.
            let is_continued = self.read_ms.is_some_and(|read_ms| at_ms > read_ms);
            if is_continued {
                self.demand.pop_back();
            }
            self.demand.push_back(Sample { at_ms: now_ms, value });
        }
    }

    /// A process that started after `from_ms` had counted nothing until then.
    fn before_its_start(&mut self, at_ms: u64, from_ms: u64) {
        let Some(started_ms) = self.started_ms.filter(|_| self.demand.is_empty()) else { return };
        let started_ms = started_ms.min(at_ms.saturating_sub(1));
        if started_ms > from_ms {
            self.demand.push_back(Sample { at_ms: from_ms, value: 0.0 });
            self.demand.push_back(Sample { at_ms: started_ms, value: 0.0 });
        }
    }

    fn forget(&mut self, now_ms: u64, limits: Limits) {
        let old = |at_ms: u64, keep_ms: u64| now_ms.saturating_sub(at_ms) > keep_ms;
        // One older than the window stays, so that the difference spans the whole window.
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

/// One curve for all: replicas are alike, so what one of them learned while its node was busy with
/// something else must not speak for the others. Of those that learned from about as many batches as the
/// one that knows most, the middle one counts.
fn typical(mut curves: Vec<Curve>) -> Option<Curve> {
    let most = curves.iter().map(|curve| curve.samples).max()?;
    curves.retain(|curve| curve.samples >= most / 2);
    let time_ms = |curve: &Curve| curve.alpha_ms + TYPICAL_ROWS * curve.beta_ms;
    curves.sort_by(|a, b| time_ms(a).total_cmp(&time_ms(b)));
    // Of two the faster one: nothing makes a replica faster than it is.
    curves.get((curves.len() - 1) / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { keep_ms: 10_000, latency_window_ms: 5_000, stale_ms: 3_000 };

    fn demand(rows: f64) -> Reading {
        Reading { demand_rows: Some(rows), queue_rows: Some(1.0), ..Reading::default() }
    }

    fn batcher(name: &str) -> Batcher {
        let (name, metrics_url) = (name.to_owned(), String::new());
        Batcher { name, metrics_url, is_required: true, started_ms: None }
    }

    fn rate(history: &History, now_ms: u64) -> f64 {
        let windows = sluice_scaling_policy::Windows { demand_ms: 8_000, ..Default::default() };
        let series = history.signals(now_ms, 0.99).demand_rows;
        sluice_scaling_policy::demand::measure(&series, now_ms, &windows, 0).unwrap().rate
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
        let b = Batcher { started_ms: Some(19_500), ..b };
        let mut rows = (0.0, 0.0);
        for second in 0..60_u64 {
            let now_ms = second * 1000;
            let both = (20..40).contains(&second);
            rows.0 += if both { 50.0 } else { 100.0 };
            rows.1 += if both { 50.0 } else { 0.0 };
            let there = if both { vec![a.clone(), b.clone()] } else { vec![a.clone()] };
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
        assert_eq!(missing(&history, 0), 1, "whoever was there from the first look on, at once");
        history.record("b", 1, false, demand(1.0));
        assert_eq!(missing(&history, 1), 0);
        let starting = Batcher { is_required: false, ..batcher("c") };
        history.present(1000, &[batcher("a"), batcher("b"), starting]);
        assert_eq!(missing(&history, 20_000), 0, "who still starts may be silent");
        history.record("a", 20_000, false, demand(2.0));
        history.record("b", 20_000, false, demand(2.0));
        history.present(20_000, &[batcher("a"), batcher("b"), batcher("c")]);
        assert_eq!(missing(&history, 21_000), 0, "who joined is given a moment");
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
        assert_eq!(chosen(&[curve(40.0, 256), curve(30.0, 9)]), Some(40.0), "who has just begun");
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
