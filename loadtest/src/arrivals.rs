//! Schedule of a whole run: when requests are due. Pure, and repeatable from a seed.
//!
//! A schedule is a rate over time ([`RateCurve`]) and a [`Spacing`]. Arrivals of a unit process (1 per unit
//! on average) are mapped through the inverse of the rate's integral, which gives the exact inhomogeneous
//! process also where the rate changes between two arrivals.

mod rate;
mod trace;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

pub use rate::{RateCurve, RateError, Segment};
pub use trace::{TraceError, parse as parse_trace};

/// Spacing of arrivals at a given rate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Spacing {
    /// Independent users: exponential gaps.
    #[default]
    Poisson,
    /// Equal gaps.
    Constant,
}

/// Iterator over the times at which requests are due, in nanoseconds from the start of the run, ascending.
#[derive(Debug, Clone)]
pub struct Arrivals {
    rate: RateCurve,
    spacing: Spacing,
    random: StdRng,
    segment: usize,
    segment_start_s: f64,
    /// Arrivals that the current segment has used up, in units of the unit process.
    used: f64,
    first: bool,
}

impl Arrivals {
    /// Creates a schedule. The same arguments give the same schedule.
    pub fn new(rate: RateCurve, spacing: Spacing, seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        Self { rate, spacing, random, segment: 0, segment_start_s: 0.0, used: 0.0, first: true }
    }

    /// Returns the length of the schedule in seconds.
    pub fn duration_s(&self) -> f64 {
        self.rate.duration_s()
    }

    fn unit_gap(&mut self) -> f64 {
        match self.spacing {
            // 1 - u is in (0, 1], so that the logarithm is finite.
            Spacing::Poisson => -(1.0 - self.random.random::<f64>()).ln(),
            // Half a gap first: windows then hold their share of arrivals, not one more or less.
            Spacing::Constant if self.first => 0.5,
            Spacing::Constant => 1.0,
        }
    }
}

impl Iterator for Arrivals {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let mut gap = self.unit_gap();
        self.first = false;
        loop {
            let segment = *self.rate.segments().get(self.segment)?;
            let left = segment.arrivals() - self.used;
            if gap <= left {
                self.used += gap;
                let at_s = self.segment_start_s + segment.time_of(self.used);
                return Some((at_s * 1e9) as u64);
            }
            gap -= left;
            self.used = 0.0;
            self.segment += 1;
            self.segment_start_s += segment.duration_s;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(arrivals: Arrivals, window_s: f64) -> Vec<f64> {
        let mut counts = vec![0.0; (arrivals.duration_s() / window_s).round() as usize];
        for at_ns in arrivals {
            let last = counts.len() - 1;
            let window = (at_ns as f64 / 1e9 / window_s) as usize;
            counts[window.min(last)] += 1.0;
        }
        counts
    }

    fn mean_and_dispersion(counts: &[f64]) -> (f64, f64) {
        let mean = counts.iter().sum::<f64>() / counts.len() as f64;
        let variance = counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / counts.len() as f64;
        (mean, variance / mean)
    }

    fn flat(rate_rps: f64, duration_s: f64) -> RateCurve {
        RateCurve::new(vec![Segment::flat(rate_rps, duration_s)]).unwrap()
    }

    #[test]
    fn poisson_arrivals_have_the_mean_and_the_dispersion_of_a_poisson_process() {
        let (mean, dispersion) =
            mean_and_dispersion(&counts(Arrivals::new(flat(500.0, 400.0), Spacing::Poisson, 1), 0.1));
        assert!((mean - 50.0).abs() < 0.5, "mean {mean}");
        assert!((dispersion - 1.0).abs() < 0.1, "index of dispersion {dispersion}");
    }

    #[test]
    fn constant_arrivals_are_equally_spaced() {
        let arrivals: Vec<_> = Arrivals::new(flat(1000.0, 1.0), Spacing::Constant, 1).collect();
        assert_eq!(arrivals.len(), 1000);
        assert_eq!(arrivals[0], 500_000);
        assert!(arrivals.windows(2).all(|pair| pair[1].abs_diff(pair[0] + 1_000_000) <= 1));
    }

    #[test]
    fn a_seed_repeats_its_schedule_and_another_one_does_not() {
        let draw = |seed| Arrivals::new(flat(100.0, 10.0), Spacing::Poisson, seed).collect::<Vec<_>>();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn a_step_changes_the_rate_at_its_time_and_a_pause_has_no_arrivals() {
        let rate = RateCurve::new(vec![
            Segment::flat(100.0, 10.0),
            Segment::flat(0.0, 5.0),
            Segment::flat(400.0, 10.0),
        ]);
        let counts = counts(Arrivals::new(rate.unwrap(), Spacing::Constant, 1), 5.0);
        assert_eq!(counts, [500.0, 500.0, 0.0, 2000.0, 2000.0]);
    }

    #[test]
    fn a_ramp_grows_linearly() {
        let rate = RateCurve::new(vec![Segment { duration_s: 10.0, from_rps: 0.0, to_rps: 100.0 }]).unwrap();
        let counts = counts(Arrivals::new(rate, Spacing::Constant, 1), 5.0);
        assert_eq!(counts, [125.0, 375.0]);
    }

    #[test]
    fn arrivals_never_go_back_in_time_nor_past_the_end() {
        let rate = RateCurve::new(vec![
            Segment::flat(300.0, 1.0),
            Segment { duration_s: 2.0, from_rps: 300.0, to_rps: 0.0 },
        ]);
        let mut last = 0;
        for at_ns in Arrivals::new(rate.unwrap(), Spacing::Poisson, 3) {
            assert!(at_ns >= last && at_ns <= 3_000_000_000, "{at_ns} after {last}");
            last = at_ns;
        }
        assert!(last > 2_000_000_000);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

        /// Whatever the curve, equal gaps put as many arrivals before any time as the integral of the rate says.
        #[test]
        fn constant_arrivals_follow_the_integral_of_any_rate(
            pieces in proptest::collection::vec((0.1_f64..5.0, 0.1_f64..200.0, 0.0_f64..200.0), 1..6),
        ) {
            let segments: Vec<_> = pieces
                .into_iter()
                .map(|(duration_s, from_rps, to_rps)| Segment { duration_s, from_rps, to_rps })
                .collect();
            let rate = RateCurve::new(segments.clone()).unwrap();
            let arrivals: Vec<u64> = Arrivals::new(rate, Spacing::Constant, 1).collect();
            proptest::prop_assert!(arrivals.is_sorted());
            let (mut end_s, mut expected) = (0.0, 0.0);
            for segment in segments {
                end_s += segment.duration_s;
                expected += segment.arrivals();
                let before = arrivals.partition_point(|at_ns| *at_ns as f64 <= end_s * 1e9) as f64;
                proptest::prop_assert!((before - expected).abs() <= 1.0, "{before} by {end_s} s, expected {expected}");
            }
        }
    }
}
