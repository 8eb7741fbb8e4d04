//! Fits α and β robustly to a window of batches.

/// Measurement of one batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) rows: f64,
    pub(super) seconds: f64,
}

/// A line L(b) = α + β·b, seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Line {
    pub(super) alpha: f64,
    pub(super) beta: f64,
}

impl Line {
    pub(super) fn at(self, rows: f64) -> f64 {
        self.alpha + self.beta * rows
    }

    pub(super) fn scaled(self, factor: f64) -> Self {
        Self { alpha: self.alpha * factor, beta: self.beta * factor }
    }

    /// Returns measured ÷ predicted − 1.
    pub(super) fn residual(self, sample: Sample) -> f64 {
        sample.seconds / self.at(sample.rows) - 1.0
    }

    /// Returns whether both lines predict nearly the same for all batches of up to `largest_rows` rows.
    fn is_near(self, other: Self, largest_rows: f64) -> bool {
        [1.0, largest_rows].into_iter().all(|rows| (self.at(rows) / other.at(rows) - 1.0).abs() < SETTLED)
    }
}

/// Smallest relative noise that is assumed: below it, clocks and rounding decide.
const LEAST_SCALE: f64 = 0.005;
/// Number of standard deviations beyond which residuals count less and less.
const TOLERATED_DEVIATIONS: f64 = 2.5;
/// Relative standard deviation of the prior of the shape, which decides where the samples do not determine it.
const PRIOR_DEVIATION: f64 = 0.5;
/// Most re-weighting rounds; two or three are usually enough.
const ROUNDS: usize = 4;
/// Relative change of the line below which a round is the last one.
const SETTLED: f64 = 1e-4;
/// Factor from the median absolute deviation to a normal distribution's standard deviation.
const MAD_TO_DEVIATION: f64 = 1.4826;

/// Fits a line by iteratively re-weighted least squares of relative residuals over `samples` (oldest first, the last
/// one counts 1 and each before it `keep` times as much as its successor). A weak prior keeps it in place: the shape of
/// `anchor`, scaled to the samples, at one row and at twice `largest_rows`. Where all batches have one size, α and β
/// cannot be told apart, and the ratio of `anchor` stays. Returns the line and the standard deviation of its relative
/// residuals.
pub(super) fn fit(
    samples: &[Sample],
    anchor: Line,
    largest_rows: f64,
    keep: f64,
    scratch: &mut Vec<f64>,
) -> (Line, f64) {
    let level = median(samples.iter().map(|&sample| anchor.residual(sample)), scratch);
    let anchor = anchor.scaled((1.0 + level).max(f64::MIN_POSITIVE));
    let mut line = anchor;
    let mut scale = deviation(samples, line, scratch);
    for _ in 0..ROUNDS {
        let mut sums = Sums::default();
        let mut age_weight = 1.0;
        for &sample in samples.iter().rev() {
            let residual = (line.residual(sample) / scale).abs();
            let excess = (TOLERATED_DEVIATIONS / residual.max(TOLERATED_DEVIATIONS)).powi(2);
            let predicted = line.at(sample.rows) * scale;
            sums.add(sample.rows, sample.seconds, age_weight * excess / (predicted * predicted));
            age_weight *= keep;
        }
        for rows in [1.0, 2.0 * largest_rows.max(1.0)] {
            let expected = anchor.at(rows);
            let deviation = expected * PRIOR_DEVIATION;
            sums.add(rows, expected, 1.0 / (deviation * deviation));
        }
        let before = std::mem::replace(&mut line, sums.solve());
        scale = deviation(samples, line, scratch);
        if line.is_near(before, largest_rows) {
            break;
        }
    }
    (line, scale)
}

/// Returns the robust standard deviation of the relative residuals.
fn deviation(samples: &[Sample], line: Line, scratch: &mut Vec<f64>) -> f64 {
    let absolute = samples.iter().map(|&sample| line.residual(sample).abs());
    (MAD_TO_DEVIATION * median(absolute, scratch)).max(LEAST_SCALE)
}

/// Returns the median (the lower one of two); 0 without values.
pub(super) fn median(values: impl Iterator<Item = f64>, scratch: &mut Vec<f64>) -> f64 {
    quantile(values, 0.5, scratch)
}

/// Returns the quantile `q` by rank, rounded down, so that the largest of a few values is not taken for their 95th
/// percentile; 0 without values.
pub(super) fn quantile(values: impl Iterator<Item = f64>, q: f64, scratch: &mut Vec<f64>) -> f64 {
    scratch.clear();
    scratch.extend(values);
    if scratch.is_empty() {
        return 0.0;
    }
    let rank = ((scratch.len() - 1) as f64 * q) as usize;
    *scratch.select_nth_unstable_by(rank, f64::total_cmp).1
}

/// Weighted sums of the normal equations.
#[derive(Debug, Default)]
struct Sums {
    weight: f64,
    rows: f64,
    rows_squared: f64,
    seconds: f64,
    rows_seconds: f64,
}

impl Sums {
    fn add(&mut self, rows: f64, seconds: f64, weight: f64) {
        self.weight += weight;
        self.rows += weight * rows;
        self.rows_squared += weight * rows * rows;
        self.seconds += weight * seconds;
        self.rows_seconds += weight * rows * seconds;
    }

    /// Returns the line of least squares with α ≥ 0 and β ≥ 0: where one would be negative it is 0 and the other is
    /// fitted alone.
    fn solve(&self) -> Line {
        let determinant = self.weight * self.rows_squared - self.rows * self.rows;
        let beta = (self.weight * self.rows_seconds - self.rows * self.seconds) / determinant;
        let alpha = (self.seconds - beta * self.rows) / self.weight;
        if beta.is_finite() && beta >= 0.0 && alpha >= 0.0 {
            Line { alpha, beta }
        } else if alpha < 0.0 {
            Line { alpha: 0.0, beta: self.rows_seconds / self.rows_squared }
        } else {
            Line { alpha: self.seconds / self.weight, beta: 0.0 }
        }
    }
}
