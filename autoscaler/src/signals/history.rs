//! Readings over time, bounded, as the policy wants them.

use std::collections::{BTreeMap, VecDeque};

use sluice_scaling_policy::{Sample, Series, Signals};

use super::reading::{Buckets, Reading};

/// Most samples that are kept of one counter, whatever the windows and the tick are.
const MOST_SAMPLES: usize = 4096;

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
#[derive(Debug)]
pub struct History {
    limits: Limits,
    sources: BTreeMap<String, Source>,
}

#[derive(Debug, Default)]
struct Source {
    /// Of the demand counter. It may fall when its process began anew: the policy knows what that means.
    demand: VecDeque<Sample>,
    latest: Option<(u64, Reading)>,
    latency: VecDeque<(u64, Buckets)>,
}

impl History {
    /// Empty: nothing is known, so nothing scales down.
    pub fn new(limits: Limits) -> Self {
        Self { limits, sources: BTreeMap::new() }
    }

    /// Forgets batchers that are not there any more.
    pub fn retain(&mut self, sources: &[String]) {
        self.sources.retain(|name, _| sources.contains(name));
    }

    /// Adds what one batcher said at `at_ms`.
    pub fn record(&mut self, source: &str, at_ms: u64, reading: Reading) {
        let limits = self.limits;
        let entry = self.sources.entry(source.to_owned()).or_default();
        if let Some(value) = reading.demand_rows {
            entry.demand.push_back(Sample { at_ms, value });
        }
        entry.latency.push_back((at_ms, reading.latency.clone()));
        entry.latest = Some((at_ms, reading));
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
            demand_rows: self.sources.iter().filter_map(|(name, source)| source.series(name)).collect(),
            // The batcher that learned from the most batches knows best.
            curve: latest.iter().filter_map(|(_, reading)| reading.curve).max_by_key(|curve| curve.samples),
            queue_rows: combine(|reading| reading.queue_rows, false),
            observed_quantile_ms: self.observed_quantile_ms(now_ms, quantile),
            attainment: combine(|reading| reading.attainment.filter(|ratio| !ratio.is_nan()), true),
            demand_latched: latest.iter().any(|(_, reading)| reading.demand_latched),
        }
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

impl Source {
    fn series(&self, name: &str) -> Option<Series> {
        let samples: Vec<Sample> = self.demand.iter().copied().collect();
        (!samples.is_empty()).then(|| Series { source: name.to_owned(), samples })
    }

    fn forget(&mut self, now_ms: u64, limits: Limits) {
        let old = |at_ms: u64, keep_ms: u64| now_ms.saturating_sub(at_ms) > keep_ms;
        while self.demand.front().is_some_and(|sample| old(sample.at_ms, limits.keep_ms))
            || self.demand.len() > MOST_SAMPLES
        {
            self.demand.pop_front();
        }
        // One older than the window stays, so that the difference spans the whole window.
        while self.latency.get(1).is_some_and(|(at_ms, _)| old(*at_ms, limits.latency_window_ms))
            || self.latency.len() > MOST_SAMPLES
        {
            self.latency.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { keep_ms: 10_000, latency_window_ms: 5_000, stale_ms: 3_000 };

    fn demand(rows: f64) -> Reading {
        Reading { demand_rows: Some(rows), queue_rows: Some(1.0), ..Reading::default() }
    }

    #[test]
    fn samples_older_than_the_longest_window_are_forgotten() {
        let mut history = History::new(LIMITS);
        for second in 0..100_u32 {
            history.record("gateway", u64::from(second) * 1000, demand(f64::from(second)));
        }
        let signals = history.signals(99_000, 0.99);
        assert_eq!(signals.demand_rows.len(), 1);
        assert_eq!(signals.demand_rows[0].samples.len(), 11);
    }

    #[test]
    fn a_stale_reading_is_no_reading() {
        let mut history = History::new(LIMITS);
        history.record("gateway", 0, demand(1.0));
        assert!(history.signals(3000, 0.99).queue_rows.is_some());
        assert_eq!(history.signals(3001, 0.99).queue_rows, None);
    }

    #[test]
    fn a_page_without_demand_adds_no_sample() {
        let mut history = History::new(LIMITS);
        history.record("gateway", 0, Reading::default());
        assert!(history.signals(0, 0.99).demand_rows.is_empty());
    }

    #[test]
    fn nan_is_kept_for_the_policy_to_see() {
        let mut history = History::new(LIMITS);
        history.record("gateway", 0, demand(f64::NAN));
        assert!(history.signals(0, 0.99).demand_rows[0].samples[0].value.is_nan());
    }

    #[test]
    fn several_batchers_add_up_and_those_gone_are_forgotten() {
        let mut history = History::new(LIMITS);
        history.record("a", 1000, demand(1.0));
        history.record("b", 2000, demand(2.0));
        let queue = history.signals(2000, 0.99).queue_rows.unwrap();
        assert_eq!((queue.at_ms, queue.value), (1000, 2.0));
        history.retain(&["b".to_owned()]);
        assert_eq!(history.signals(2000, 0.99).demand_rows.len(), 1);
    }
}
