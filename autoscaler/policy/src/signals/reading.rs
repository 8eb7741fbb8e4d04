//! One batcher at one moment: what its metrics page says about one model.

use super::is_count;
use crate::curve::Curve;

/// Largest finite bound of a latency bucket, seconds: about thirty years.
const MAX_BOUND_SECONDS: f64 = 1e9;

/// Metrics of one model on one batcher's page. `None` means that the page lacks the value, or has an impossible one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reading {
    /// Counter of rows that arrived; NaN where the page has something that is not a count.
    pub demand_rows: Option<f64>,
    /// Rows waiting in the queue.
    pub queue_rows: Option<f64>,
    /// Whether requests are held because there is no replica.
    pub demand_latched: bool,
    /// Learned service curve; `None` until the batcher has learned from at least one batch.
    pub curve: Option<Curve>,
    /// Share of recent requests within the objective, 0 to 1.
    pub attainment: Option<f64>,
    /// Latency histogram of all requests since the batcher started; empty where the page has no valid histogram.
    pub latency: Buckets,
}

/// Cumulative latency histogram: upper bounds in seconds with the observations up to each, in rising order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Buckets(Vec<(f64, f64)>);

impl Buckets {
    /// Adds up the series of one histogram, which differ in their labels; each is a list of (bound, observations).
    ///
    /// Returns an empty histogram unless every series has the same bounds, ends at +Inf and never falls: half a
    /// histogram has no quantile.
    pub fn sum(series: impl Iterator<Item = Vec<(f64, f64)>>) -> Self {
        let mut sum = Self::default();
        for mut part in series {
            part.sort_by(|(a, _), (b, _)| a.total_cmp(b));
            let rises = part.is_sorted_by(|(lower, below), (upper, up_to)| lower < upper && below <= up_to);
            let counts = part.iter().all(|(_, count)| is_count(*count));
            let ends = part.last().is_some_and(|(bound, _)| *bound == f64::INFINITY);
            let bounds = part.iter().all(|(bound, _)| bound.is_infinite() || *bound <= MAX_BOUND_SECONDS);
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

    /// Returns the observations since `earlier`; `None` where the histogram was reset in between, or its bounds differ.
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

    /// Adds the observations of another histogram, unless its bounds differ: such a sum would mean nothing.
    pub fn add(&mut self, other: &Self) {
        if self.0.is_empty() {
            self.0.clone_from(&other.0);
        } else if self.has_bounds_of(other) {
            self.0.iter_mut().zip(&other.0).for_each(|((_, count), (_, more))| *count += more);
        }
    }

    /// Returns the latency, seconds, below which the share `quantile` (0 to 1) of the observations lies.
    ///
    /// Interpolates linearly inside a bucket; returns the last finite bound for what lies above it, and `None` where
    /// there are no observations.
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
