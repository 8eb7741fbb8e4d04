//! Service time of a batch: (α + β·rows) × scale. The first call of each batch size is slower, and jitter can be
//! added. Pure: randomness comes from a seed.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// Service curve: the part of the service time that can be changed at run time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Curve {
    /// Fixed cost of a batch, in milliseconds, on the reference slice.
    pub alpha_ms: f64,
    /// Cost per row, in milliseconds, on the reference slice.
    pub beta_ms: f64,
}

/// A parameter of a curve that is negative or not finite.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{name} is {value}: it must be a number of milliseconds, 0 or more")]
pub struct BadCurve {
    /// Name of the parameter.
    pub name: &'static str,
    /// Its value in milliseconds.
    pub value: f64,
}

impl Curve {
    /// Checks that both are finite and not negative.
    ///
    /// # Errors
    /// Names the field and its value.
    pub fn check(self) -> Result<Self, BadCurve> {
        for (name, value) in [("alphaMs", self.alpha_ms), ("betaMs", self.beta_ms)] {
            if !value.is_finite() || value < 0.0 {
                return Err(BadCurve { name, value });
            }
        }
        Ok(self)
    }
}

/// Service time of a server: its curve with scale, first-call cost and jitter.
#[derive(Debug)]
pub struct ServiceTime {
    curve: Curve,
    scale: f64,
    first_call_ms: f64,
    jitter_ratio: f64,
    seen_sizes: BTreeSet<usize>,
    random: StdRng,
}

impl ServiceTime {
    /// `scale` is reference compute slices ÷ compute slices of this server's slice; `first_call_ms` is added
    /// once per batch size; `jitter_ratio` spreads each time evenly by ± that part of it.
    pub fn new(curve: Curve, scale: f64, first_call_ms: f64, jitter_ratio: f64, seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        Self { curve, scale, first_call_ms, jitter_ratio, seen_sizes: BTreeSet::new(), random }
    }

    /// Replaces α and β for the following batches.
    pub fn set_curve(&mut self, curve: Curve) {
        self.curve = curve;
    }

    /// Returns the service time of the next batch, of `rows` rows. Marks this size as seen.
    pub fn next(&mut self, rows: usize) -> Duration {
        let jitter = match self.jitter_ratio {
            0.0 => 1.0,
            ratio => 1.0 + self.random.random_range(-ratio..=ratio),
        };
        let first = if self.seen_sizes.insert(rows) { self.first_call_ms } else { 0.0 };
        let ms = (self.curve.alpha_ms + self.curve.beta_ms * rows as f64) * self.scale * jitter + first;
        Duration::from_nanos((ms * 1e6).round() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURVE: Curve = Curve { alpha_ms: 2.0, beta_ms: 0.1 };

    #[test]
    fn a_smaller_slice_takes_longer_in_proportion() {
        let time = |scale| ServiceTime::new(CURVE, scale, 0.0, 0.0, 1).next(64);
        assert_eq!(time(1.0), Duration::from_micros(8400));
        assert_eq!(time(7.0 / 2.0), Duration::from_micros(29400));
    }

    #[test]
    fn only_the_first_call_of_each_batch_size_is_slow() {
        let mut service = ServiceTime::new(CURVE, 1.0, 50.0, 0.0, 1);
        let first: Vec<_> = [1, 2, 1, 2].map(|rows| service.next(rows) > Duration::from_millis(50)).into();
        assert_eq!(first, [true, true, false, false]);
    }

    #[test]
    fn jitter_stays_in_its_band_and_repeats_with_its_seed() {
        let draw = |seed| {
            let mut service = ServiceTime::new(CURVE, 1.0, 0.0, 0.2, seed);
            (0..1000).map(|_| service.next(10).as_secs_f64()).collect::<Vec<_>>()
        };
        let times = draw(7);
        assert!(times.iter().all(|seconds| (0.0024..=0.0036).contains(seconds)));
        assert!(times.iter().any(|seconds| (seconds - 0.003).abs() > 0.0003));
        assert_eq!(times, draw(7));
        assert_ne!(times, draw(8));
    }

    #[test]
    fn a_changed_curve_holds_from_the_next_batch_on() {
        let mut service = ServiceTime::new(CURVE, 1.0, 0.0, 0.0, 1);
        service.next(1);
        service.set_curve(Curve { alpha_ms: 5.0, beta_ms: 1.0 });
        assert_eq!(service.next(1), Duration::from_millis(6));
    }

    #[test]
    fn a_negative_or_absurd_curve_is_refused_by_field() {
        let message = Curve { alpha_ms: 1.0, beta_ms: f64::NAN }.check().unwrap_err().to_string();
        assert!(message.contains("betaMs"), "{message}");
    }
}
