//! One batcher at one moment: what its page says about one model.

use sluice_config::metric_names::batcher;
use sluice_scaling_policy::Curve;

use super::prometheus_text::Metric;

/// What one page says about one model. `None` = the page does not say.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reading {
    /// Counter: rows that arrived.
    pub demand_rows: Option<f64>,
    /// Rows waiting.
    pub queue_rows: Option<f64>,
    /// Whether requests are held for want of a replica.
    pub demand_latched: bool,
    /// Learned service curve; `None` until something was learned.
    pub curve: Option<Curve>,
    /// Share of recent requests within the objective.
    pub attainment: Option<f64>,
    /// Latency of all requests so far.
    pub latency: Buckets,
}

impl Reading {
    /// What `page` says about `model`.
    pub fn of(page: &[Metric], model: &str) -> Self {
        let of_model = || page.iter().filter(|metric| metric.label("model") == Some(model));
        let sum = |name: &str| {
            let mut values = of_model().filter(|metric| metric.name == name).map(|metric| metric.value);
            values.next().map(|first| values.fold(first, |sum, value| sum + value))
        };
        Self {
            demand_rows: sum(batcher::DEMAND_ROWS_TOTAL),
            queue_rows: sum(batcher::QUEUE_ROWS),
            demand_latched: sum(batcher::DEMAND_LATCHED).is_some_and(|latched| latched > 0.0),
            curve: curve(
                sum(batcher::CURVE_ALPHA_SECONDS),
                sum(batcher::CURVE_BETA_SECONDS),
                sum(batcher::BATCH_ROWS_LIMIT),
                sum(batcher::CURVE_SAMPLES),
            ),
            attainment: sum(batcher::ATTAINMENT_RATIO),
            latency: Buckets::of(of_model(), batcher::REQUEST_DURATION_SECONDS),
        }
    }
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
    /// Sums the `_bucket` series of a histogram over all labels but `le`.
    fn of<'a>(metrics: impl Iterator<Item = &'a Metric>, histogram: &str) -> Self {
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for metric in metrics.filter(|metric| metric.name.strip_suffix("_bucket") == Some(histogram)) {
            let Some(bound) = metric.label("le").and_then(|bound| bound.parse::<f64>().ok()) else {
                continue;
            };
            match buckets.iter_mut().find(|(known, _)| known.total_cmp(&bound).is_eq()) {
                Some((_, count)) => *count += metric.value,
                None => buckets.push((bound, metric.value)),
            }
        }
        buckets.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        Self(buckets)
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
        } else if self.0.len() == other.0.len() {
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
    use super::super::prometheus_text::parse;
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
        Reading::of(&parse(page).unwrap(), "bert")
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
}
