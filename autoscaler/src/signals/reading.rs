//! One batcher at one moment: what its page says about one model.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use sluice_config::metric_names::batcher;
use sluice_scaling_policy::Curve;

/// Most series of one model that a reading is made of.
pub const MOST_SERIES: usize = 4096;
/// Most buckets of one histogram.
pub const MOST_BUCKETS: usize = 256;
/// Largest bound of a bucket that still is a latency: some thirty years.
const MOST_BOUND_SECONDS: f64 = 1e9;
/// A counter beyond 2⁵³ does not count any more: not every whole number above it is a double.
const MOST_COUNTED: f64 = 9_007_199_254_740_992.0;

/// What one page says about one model. `None` = the page does not say, or says what cannot be.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reading {
    /// Counter: rows that arrived. NaN where the page says something that is not a count.
    pub demand_rows: Option<f64>,
    /// Rows waiting.
    pub queue_rows: Option<f64>,
    /// Whether requests are held for want of a replica.
    pub demand_latched: bool,
    /// Learned service curve; `None` until something was learned.
    pub curve: Option<Curve>,
    /// Share of recent requests within the objective, 0 to 1.
    pub attainment: Option<f64>,
    /// Latency of all requests so far; empty where its histogram cannot be.
    pub latency: Buckets,
}

/// Why no reading is made of what was read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadingError {
    /// More series than a batcher has of one model.
    #[error("there are more than {MOST_SERIES} series of the model (the cap); no batcher has so many")]
    Series,
    /// More buckets than a batcher has.
    #[error(
        "a histogram of the model has more than {MOST_BUCKETS} buckets (the cap); no batcher has so many"
    )]
    Buckets,
    /// The same series twice: nobody can tell which value counts.
    #[error("a series of {0} is there twice with the same labels")]
    Twice(&'static str),
    /// A bucket without a bound.
    #[error("a bucket of {0} has no label le that is a number")]
    Bound(&'static str),
}

/// The metrics that a reading is made of, in the order of [`Collector::sums`].
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

/// One of these metrics, and the type that it has on a page; `None` = it is none of them.
pub fn kind_of(metric: &str) -> Option<(&'static str, &'static str)> {
    if metric == batcher::REQUEST_DURATION_SECONDS {
        return Some((batcher::REQUEST_DURATION_SECONDS, "histogram"));
    }
    let known = SUMMED.iter().find(|known| **known == metric)?;
    Some((known, if *known == batcher::DEMAND_ROWS_TOTAL { "counter" } else { "gauge" }))
}

/// Makes a reading of series that come one after another. Each costs the same, however many there are.
#[derive(Debug)]
pub struct Collector {
    model: String,
    sums: [Option<f64>; SUMMED.len()],
    /// Buckets by their labels but the bound.
    buckets: HashMap<u64, Vec<(f64, f64)>>,
    /// Of every series that was taken in, by its name and labels.
    seen: HashSet<u64>,
    hasher: RandomState,
}

impl Collector {
    /// Takes in what is of this model.
    pub fn new(model: &str) -> Self {
        Self {
            model: model.to_owned(),
            sums: [None; SUMMED.len()],
            buckets: HashMap::new(),
            seen: HashSet::new(),
            hasher: RandomState::new(),
        }
    }

    /// Takes in a series; whether it was one that a reading of this model is made of.
    ///
    /// # Errors
    /// See [`ReadingError`].
    pub fn add<'a>(
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

    /// The reading of all that was taken in.
    pub fn finish(self) -> Reading {
        let [demand, queue, latched, alpha, beta, limit, samples, attainment] = self.sums;
        Reading {
            // Not known is not the same as not said: who says nonsense is not believed to have no demand.
            demand_rows: demand.map(|rows| if is_count(rows) { rows } else { f64::NAN }),
            queue_rows: queue.filter(|rows| is_count(*rows)),
            demand_latched: latched.is_some_and(|latched| latched > 0.0),
            curve: curve(alpha, beta, limit, samples),
            attainment: attainment.filter(|ratio| (0.0..=1.0).contains(ratio)),
            latency: Buckets::sum(self.buckets.into_values()),
        }
    }
}

fn is_count(value: f64) -> bool {
    (0.0..=MOST_COUNTED).contains(&value)
}

/// Seconds to milliseconds; `None` unless everything is there and something was learned.
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

/// A cumulative histogram: (upper bound in seconds, observations up to it), by bound.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Buckets(Vec<(f64, f64)>);

impl Buckets {
    /// The sum of a histogram's parts (its series of different labels). Empty unless each of them counts up to
    /// +Inf without ever falling and all have the same bounds: of half a histogram no quantile can be told.
    fn sum(parts: impl Iterator<Item = Vec<(f64, f64)>>) -> Self {
        let mut sum = Self::default();
        for mut part in parts {
            part.sort_by(|(a, _), (b, _)| a.total_cmp(b));
            let rises = part.is_sorted_by(|(lower, below), (upper, up_to)| lower < upper && below <= up_to);
            let counts = part.iter().all(|(_, count)| is_count(*count));
            let ends = part.last().is_some_and(|(bound, _)| *bound == f64::INFINITY);
            let bounds = part.iter().all(|(bound, _)| bound.is_infinite() || *bound <= MOST_BOUND_SECONDS);
            let begins = part.first().is_some_and(|(bound, _)| *bound >= 0.0);
            let part = Self(part);
            if !(rises && counts && begins && ends && bounds)
                || !(sum.0.is_empty() || sum.has_bounds_of(&part))
            {
                return Self::default();
            }
            sum.add(&part);
        }
        sum
    }

    fn has_bounds_of(&self, other: &Self) -> bool {
        self.0.iter().map(|(bound, _)| bound).eq(other.0.iter().map(|(bound, _)| bound))
    }

    /// Observations since `earlier`; `None` when the histogram began anew in between or its bounds differ.
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        if self.0.len() != earlier.0.len() {
            return None;
        }
        let difference = |((bound, now), (earlier_bound, before)): (&(f64, f64), &(f64, f64))| {
            let same = bound.total_cmp(earlier_bound).is_eq();
            (same && now >= before).then_some((*bound, now - before))
        };
        self.0.iter().zip(&earlier.0).map(difference).collect::<Option<Vec<_>>>().map(Self)
    }

    /// Adds another histogram's observations. Bounds that only one of them has make the sum meaningless,
    /// so a histogram of other bounds is left out.
    pub fn add(&mut self, other: &Self) {
        if self.0.is_empty() {
            self.0.clone_from(&other.0);
        } else if self.has_bounds_of(other) {
            self.0.iter_mut().zip(&other.0).for_each(|((_, count), (_, more))| *count += more);
        }
    }

    /// The value, seconds, below which `quantile` (0..1) of the observations lie, linear inside a bucket;
    /// above the last finite bound that bound. `None` without observations.
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let total = self.0.last().map(|(_, count)| *count).filter(|total| *total > 0.0)?;
        let rank = quantile * total;
        let at = self.0.iter().position(|(_, count)| *count >= rank)?;
        let (bound, count) = self.0[at];
        let (lower, below) = if at == 0 { (0.0, 0.0) } else { self.0[at - 1] };
        if bound.is_infinite() {
            return Some(lower);
        }
        let inside = count - below;
        Some(if inside > 0.0 { lower + (bound - lower) * (rank - below) / inside } else { bound })
    }
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
