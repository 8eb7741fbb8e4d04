//! Collects the series of one batcher into a reading of one model.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use sluice_config::metric_names::batcher;
use sluice_scaling_policy::Curve;
use sluice_scaling_policy::signals::{Buckets, Reading, is_count};

/// Maximum series of one model in a reading.
pub(super) const MOST_SERIES: usize = 4096;
/// Maximum buckets of one histogram.
pub(super) const MOST_BUCKETS: usize = 256;

/// Reason why a batcher's series are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReadingError {
    /// The page has more series of one model than any batcher.
    #[error("there are more than {MOST_SERIES} series of the model (the cap); no batcher has so many")]
    Series,
    /// A histogram has more buckets than any batcher's.
    #[error(
        "a histogram of the model has more than {MOST_BUCKETS} buckets (the cap); no batcher has so many"
    )]
    Buckets,
    /// A series appears twice, so it is unclear which value counts.
    #[error("a series of {0} is there twice with the same labels")]
    Twice(&'static str),
    /// A bucket has no bound.
    #[error("a bucket of {0} has no label le that is a number")]
    Bound(&'static str),
}

/// Names of the metrics that a reading adds up, in the order of [`Collector::sums`].
pub(super) const SUMMED: [&str; 8] = [
    batcher::DEMAND_ROWS_TOTAL,
    batcher::QUEUE_ROWS,
    batcher::DEMAND_LATCHED,
    batcher::CURVE_ALPHA_SECONDS,
    batcher::CURVE_BETA_SECONDS,
    batcher::BATCH_ROWS_LIMIT,
    batcher::CURVE_SAMPLES,
    batcher::ATTAINMENT_RATIO,
];

/// Returns the name of a metric that a reading uses, with its type on a batcher's page; `None` for any other metric.
pub(super) fn kind_of(metric: &str) -> Option<(&'static str, &'static str)> {
    if metric == batcher::REQUEST_DURATION_SECONDS {
        return Some((batcher::REQUEST_DURATION_SECONDS, "histogram"));
    }
    let known = SUMMED.iter().find(|known| **known == metric)?;
    Some((known, if *known == batcher::DEMAND_ROWS_TOTAL { "counter" } else { "gauge" }))
}

/// Builds a reading from series that arrive one after another, in constant time for each.
#[derive(Debug)]
pub(super) struct Collector {
    model: String,
    sums: [Option<f64>; SUMMED.len()],
    /// Latency buckets, by the hash of their labels without `le`.
    buckets: HashMap<u64, Vec<(f64, f64)>>,
    /// Hashes of name and labels of every series so far.
    seen: HashSet<u64>,
    hasher: RandomState,
}

impl Collector {
    /// Creates a collector for the series of `model`.
    pub(super) fn new(model: &str) -> Self {
        Self {
            model: model.to_owned(),
            sums: [None; SUMMED.len()],
            buckets: HashMap::new(),
            seen: HashSet::new(),
            hasher: RandomState::new(),
        }
    }

    /// Adds a series. Returns whether a reading of this model uses it.
    ///
    /// # Errors
    /// Returns a [`ReadingError`] for a duplicate series, a bucket without a bound, or more series than allowed.
    pub(super) fn add<'a>(
        &mut self,
        name: &str,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        value: f64,
    ) -> Result<bool, ReadingError> {
        let at = SUMMED.iter().position(|known| *known == name);
        if at.is_none() && name.strip_suffix("_bucket") != Some(batcher::REQUEST_DURATION_SECONDS) {
            return Ok(false);
        }
        let mut labels: Vec<(&str, &str)> = labels.collect();
        if !labels.contains(&("model", self.model.as_str())) {
            return Ok(false);
        }
        let known = at.map_or(batcher::REQUEST_DURATION_SECONDS, |at| SUMMED[at]);
        labels.sort_unstable();
        if labels.windows(2).any(|two| two[0].0 == two[1].0)
            || !self.seen.insert(self.hasher.hash_one((name, &labels)))
        {
            return Err(ReadingError::Twice(known));
        }
        if self.seen.len() > MOST_SERIES {
            return Err(ReadingError::Series);
        }
        match at {
            Some(at) => self.sums[at] = Some(self.sums[at].unwrap_or(0.0) + value),
            None => self.add_bucket(&labels, value)?,
        }
        Ok(true)
    }

    fn add_bucket(&mut self, labels: &[(&str, &str)], value: f64) -> Result<(), ReadingError> {
        let bound = labels.iter().find(|(name, _)| *name == "le");
        let bound = bound.and_then(|(_, bound)| bound.parse::<f64>().ok()).filter(|bound| !bound.is_nan());
        let bound = bound.ok_or(ReadingError::Bound(batcher::REQUEST_DURATION_SECONDS))?;
        let others: Vec<_> = labels.iter().filter(|(name, _)| *name != "le").collect();
        let buckets = self.buckets.entry(self.hasher.hash_one(others)).or_default();
        buckets.push((bound, value));
        if buckets.len() > MOST_BUCKETS { Err(ReadingError::Buckets) } else { Ok(()) }
    }

    /// Returns the reading of all series that were added.
    pub(super) fn finish(self) -> Reading {
        let [demand, queue, latched, alpha, beta, limit, samples, attainment] = self.sums;
        Reading {
            // An impossible value is not a missing one: NaN forbids a scale-down, `None` adds no sample.
            demand_rows: demand.map(|rows| if is_count(rows) { rows } else { f64::NAN }),
            queue_rows: queue.filter(|rows| is_count(*rows)),
            demand_latched: latched.is_some_and(|latched| latched > 0.0),
            curve: curve(alpha, beta, limit, samples),
            attainment: attainment.filter(|ratio| (0.0..=1.0).contains(ratio)),
            latency: Buckets::sum(self.buckets.into_values()),
        }
    }
}

/// Builds a curve in milliseconds; `None` unless every part is there and at least one batch was learned from.
fn curve(
    alpha_seconds: Option<f64>,
    beta_seconds: Option<f64>,
    batch_rows_limit: Option<f64>,
    samples: Option<f64>,
) -> Option<Curve> {
    // `as` saturates and makes NaN 0, which the checks below then refuse.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturating is meant")]
    let (batch_rows_limit, samples) = (batch_rows_limit? as u32, samples? as u64);
    let curve = Curve {
        alpha_ms: alpha_seconds? * 1000.0,
        beta_ms: beta_seconds? * 1000.0,
        batch_rows_limit,
        samples,
    };
    (samples > 0 && curve.is_usable()).then_some(curve)
}

#[cfg(test)]
mod tests {
    use super::super::page::read;
    use super::*;

    const PAGE: &str = "\
sluice_batcher_demand_rows_total{model=\"bert\"} 120
sluice_batcher_demand_rows_total{model=\"other\"} 7
sluice_batcher_queue_rows{model=\"bert\"} 3
sluice_batcher_curve_alpha_seconds{model=\"bert\"} 0.002
sluice_batcher_curve_beta_seconds{model=\"bert\"} 0.0001
sluice_batcher_batch_rows_limit{model=\"bert\"} 64
sluice_batcher_curve_samples{model=\"bert\"} 50
sluice_batcher_demand_latched{model=\"bert\"} 1
sluice_batcher_request_duration_seconds_bucket{model=\"bert\",form=\"json\",le=\"0.1\"} 50
sluice_batcher_request_duration_seconds_bucket{model=\"bert\",form=\"json\",le=\"0.2\"} 90
sluice_batcher_request_duration_seconds_bucket{model=\"bert\",form=\"json\",le=\"+Inf\"} 100
sluice_batcher_request_duration_seconds_bucket{model=\"bert\",form=\"grpc\",le=\"0.1\"} 50
sluice_batcher_request_duration_seconds_bucket{model=\"bert\",form=\"grpc\",le=\"0.2\"} 90
sluice_batcher_request_duration_seconds_bucket{model=\"bert\",form=\"grpc\",le=\"+Inf\"} 100
";

    fn reading(page: &str) -> Reading {
        read(page, "bert").unwrap()
    }

    #[test]
    fn a_page_is_read_for_one_model() {
        let reading = reading(PAGE);
        assert_eq!(reading.demand_rows, Some(120.0));
        assert_eq!(reading.queue_rows, Some(3.0));
        assert!(reading.demand_latched);
        let curve = reading.curve.unwrap();
        assert_eq!((curve.alpha_ms, curve.batch_rows_limit, curve.samples), (2.0, 64, 50));
        assert_eq!(reading.attainment, None);
    }

    #[test]
    fn what_is_not_on_the_page_is_not_zero() {
        let reading = reading("up 1\n");
        assert_eq!(reading, Reading::default());
        assert_eq!(reading.demand_rows, None);
    }

    #[test]
    fn a_curve_of_no_samples_or_of_nan_is_none() {
        for (from, to) in [("samples{model=\"bert\"} 50", "samples{model=\"bert\"} 0"), ("0.0001", "NaN")] {
            assert_eq!(reading(&PAGE.replace(from, to)).curve, None, "{to}");
        }
    }

    #[test]
    fn a_quantile_is_that_of_the_observations_since_the_earlier_page() {
        let earlier = reading(PAGE).latency;
        assert_eq!(earlier.quantile(0.25), Some(0.05));
        assert_eq!(earlier.quantile(0.999), Some(0.2), "above the last bound: that bound");
        let later = reading(&PAGE.replace("0.2\"} 90", "0.2\"} 190").replace("+Inf\"} 100", "+Inf\"} 200"));
        let between = later.latency.since(&earlier).unwrap();
        assert!((between.quantile(0.5).unwrap() - 0.15).abs() < 1e-9);
        assert_eq!(earlier.since(&later.latency), None, "a counter that went back");
        assert_eq!(Buckets::default().quantile(0.5), None);
    }

    #[test]
    fn a_number_that_cannot_be_is_no_number() {
        for number in ["NaN", "-1", "+Inf", "-Inf", "1e308", "1e16"] {
            let poisoned = |metric: &str| {
                let line = PAGE.lines().find(|line| line.starts_with(metric)).unwrap();
                let series = line.split(' ').next().unwrap();
                reading(&PAGE.replace(line, &format!("{series} {number}")))
            };
            assert!(poisoned("sluice_batcher_demand_rows_total").demand_rows.unwrap().is_nan(), "{number}");
            assert_eq!(poisoned("sluice_batcher_queue_rows").queue_rows, None, "{number}");
            assert_eq!(poisoned("sluice_batcher_curve_alpha").curve, None, "{number}");
            assert_eq!(poisoned("sluice_batcher_curve_beta").curve, None, "{number}");
            assert_eq!(poisoned("sluice_batcher_batch_rows_limit").curve, None, "{number}");
            assert_eq!(poisoned("sluice_batcher_request_duration").latency, Buckets::default(), "{number}");
            let attainment = format!("{PAGE}sluice_batcher_attainment_ratio{{model=\"bert\"}} {number}\n");
            assert_eq!(reading(&attainment).attainment, None, "{number}");
        }
    }

    #[test]
    fn a_histogram_that_cannot_be_is_none_and_its_order_on_the_page_does_not_matter() {
        let turned: String = PAGE.lines().rev().map(|line| format!("{line}\n")).collect();
        assert_eq!(reading(&turned).latency, reading(PAGE).latency);
        for (from, to) in [
            ("form=\"json\",le=\"0.2\"} 90", "form=\"json\",le=\"0.2\"} 49"),
            ("le=\"+Inf\"", "le=\"0.3\""),
            ("form=\"json\",le=\"0.2\"", "form=\"json\",le=\"0.25\""),
            ("form=\"json\",le=\"0.2\"} 90", "form=\"json\",le=\"0.2\"} -1"),
        ] {
            let read = reading(&PAGE.replace(from, to));
            assert_eq!(read.latency, Buckets::default(), "{to}");
            assert_eq!(read.demand_rows, Some(120.0), "what is sound is taken");
        }
    }
}
