//! Learns the service curve from batches as they finish.

use std::collections::VecDeque;

use super::ServiceCurve;
use super::fit::{Line, Sample, fit, median, quantile};

/// Number of batches that are remembered.
const WINDOW: usize = 256;
/// Weight of a batch relative to the next one: a batch counts half after 128 more.
const KEEP: f64 = 0.994_599;
/// Number of batches after which the curve itself becomes the prior, so that the learned shape outlives the window.
const ANCHOR_AGE: u64 = 64;
/// Fewest batches of the window, at least twice as large as its smallest, with which the curve may become the prior:
/// batches of one size show nothing of the shape, and a prior made from them would drift with their noise.
const SHAPE_BATCHES: usize = 8;
/// A fit (tens of microseconds) is used until one in this number of its batches is new: fewer new batches change
/// little, and a step is found by its own tests.
const NEW_PART: u64 = 8;
/// Tests for a step: number of newest batches, and the limits, in standard deviations, beyond which their median
/// residual and their median absolute residual are no chance. (For n normal values these medians have standard
/// deviations of about 1.25/√n around 0 and 0.8/√n around 0.67: each limit is five or more of them away.)
const STEP_TESTS: [(usize, f64, f64); 2] = [(8, 2.2, 2.4), (16, 1.5, 1.8)];
/// Largest margin. A larger one would mean that the curve is wrong, not that times vary, and the tests for a step find
/// that.
const LARGEST_MARGIN: f64 = 1.0;
/// Smallest relative change that counts as a step.
const LEAST_STEP: f64 = 0.03;

/// Learns the [`ServiceCurve`] of one (model, shape class) from its batches, by robust regression with forgetting.
///
/// - **Outliers** (a page fault, a neighbour on the device) lose weight with the square of their distance.
/// - **Drift** is followed because a batch counts half as much after 128 more.
/// - **A step** (another slice, another clock, a new model) is found when the last 8 or 16 batches agree that the
///   curve is wrong; then all batches before the step are forgotten, but not the curve's shape.
/// - **One batch size alone** does not tell α from β. Then the ratio stays what it was; before anything is known,
///   half of the first batch's time counts as α and half as growing with the rows. The times predicted at that size
///   are right in any case, and the first batches of other sizes decide.
#[derive(Debug, Clone, Default)]
pub struct CurveEstimator {
    samples: VecDeque<Sample>,
    /// Prior for the shape.
    anchor: Option<Line>,
    since_anchor: u64,
    /// Rows of the largest batch ever: the prior holds the curve up to this size.
    largest_rows: f64,
    since_fit: u64,
    fitted: Option<Fitted>,
    scratch: Vec<f64>,
}

#[derive(Debug, Clone, Copy)]
struct Fitted {
    line: Line,
    /// Standard deviation of relative residuals.
    scale: f64,
    p95: f64,
}

impl CurveEstimator {
    /// Creates an estimator without batches.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates an estimator that assumes the shape of this curve until its own batches show another one.
    pub fn starting_from(prior: &ServiceCurve) -> Self {
        let line = Line { alpha: prior.alpha_seconds, beta: prior.beta_seconds };
        // A curve of zeros has no shape.
        let anchor = (line.at(1.0) > 0.0).then_some(line);
        Self { anchor, ..Self::default() }
    }

    /// Takes in one batch: its rows and the time from dispatch to answer while it had a slot to itself, in
    /// seconds. Batches of zero rows, and times below a nanosecond or not finite, are ignored.
    pub fn observe(&mut self, rows: u32, service_seconds: f64) {
        // A time below a nanosecond is no measurement, and its square would underflow.
        if rows == 0 || !service_seconds.is_finite() || service_seconds < 1e-9 {
            return;
        }
        let sample = Sample { rows: f64::from(rows), seconds: service_seconds };
        if self.samples.len() == WINDOW {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
        self.largest_rows = self.largest_rows.max(sample.rows);
        let anchor = *self.anchor.get_or_insert(Line {
            alpha: service_seconds / 2.0,
            beta: service_seconds / (2.0 * sample.rows),
        });
        let stepped = self.forget_before_a_step();
        self.since_fit += 1;
        if stepped.is_none() && self.since_fit * NEW_PART < self.samples.len() as u64 {
            return;
        }
        self.since_anchor += self.since_fit;
        self.since_fit = 0;

        let anchor = stepped.unwrap_or(anchor);
        let (line, scale) =
            fit(self.samples.make_contiguous(), anchor, self.largest_rows, KEEP, &mut self.scratch);
        let p95 = quantile(self.samples.iter().map(|&sample| line.residual(sample)), 0.95, &mut self.scratch);
        self.fitted = Some(Fitted { line, scale, p95: p95.clamp(0.0, LARGEST_MARGIN) });
        if self.since_anchor >= ANCHOR_AGE && self.tells_the_shape() {
            self.since_anchor = 0;
            self.anchor = Some(line);
        }
    }

    /// Returns whether the window has enough batches of different sizes to show the shape.
    fn tells_the_shape(&self) -> bool {
        let smallest = self.samples.iter().map(|sample| sample.rows).fold(f64::INFINITY, f64::min);
        self.samples.iter().filter(|sample| sample.rows >= 2.0 * smallest).count() >= SHAPE_BATCHES
    }

    /// Returns the current curve; `None` before the first batch.
    pub fn curve(&self) -> Option<ServiceCurve> {
        self.fitted.map(|fitted| ServiceCurve {
            alpha_seconds: fitted.line.alpha,
            beta_seconds: fitted.line.beta,
            residual_p95_ratio: fitted.p95,
            samples: self.samples.len() as u64,
        })
    }

    /// Finds a step in the newest batches, forgets the batches before it and returns the new prior; `None` without a
    /// step.
    fn forget_before_a_step(&mut self) -> Option<Line> {
        let fitted = self.fitted?;
        let newest = |count: usize| self.samples.iter().rev().take(count).map(|&s| fitted.line.residual(s));
        for (count, moved_deviations, spread_deviations) in STEP_TESTS {
            // There must be an earlier curve to compare with.
            if self.samples.len() < 2 * count {
                continue;
            }
            let moved_limit = (moved_deviations * fitted.scale).max(LEAST_STEP);
            let spread_limit = (spread_deviations * fitted.scale).max(LEAST_STEP);
            // Nearly always the curve is right, and counting shows that for a fraction of the medians' cost: each
            // median is beyond its limit only where half of the batches are.
            let limit = moved_limit.min(spread_limit);
            let off = newest(count).filter(|residual| residual.abs() > limit).count();
            if off < count / 2 {
                continue;
            }
            let shift = median(newest(count), &mut self.scratch);
            let spread = median(newest(count).map(f64::abs), &mut self.scratch);
            // Either the level moved, or (α and β in opposite directions) most batches are far off, to both sides.
            let moved = shift.abs() > moved_limit;
            if !moved && spread <= spread_limit {
                continue;
            }
            let is_new = |&residual: &f64| {
                if moved { (residual - shift).abs() < residual.abs() } else { residual.abs() > spread / 2.0 }
            };
            // The step lies behind the oldest batch from which on all (but outliers) belong to the new level.
            let kept = newest(count).take_while(is_new).count().max(count / 2);
            // Without batches of different sizes the shape is still the older prior's; `fit` scales it.
            if self.tells_the_shape() {
                self.anchor = Some(fitted.line);
            }
            self.samples.drain(..self.samples.len() - kept);
            self.since_anchor = 0;
            return self.anchor;
        }
        None
    }
}
