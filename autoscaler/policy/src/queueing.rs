//! Queueing model: latency of one batching slot under random arrivals.
//!
//! **Model.** Rows arrive as a Poisson process, in groups of `g` (g = 1: singly; more when arrivals are
//! burstier than Poisson). The slot serves one batch at a time, as soon as it is free, of all rows that
//! wait up to B: a batch of b takes L(b) = α + β·b. The queue left behind at the ends of batches is a
//! Markov chain, q′ = q − b + Poisson(λ·L(b)) with b = min(max(q, 1), B); its stationary distribution is
//! found by iteration, and the latency of an arriving row follows from it: the rest of the batch in
//! service, the full batches ahead, and its own batch. (Bulk-service queue M/D^(1,B)/1; the embedded
//! chain is in Bailey, "On queueing processes with bulk service", 1954.)
//!
//! **Several replicas** behind one work-conserving queue are taken as independent slots with an equal
//! share of the rows. Sharing one queue is better than that, so this errs on the safe side, the more
//! the more replicas there are; the corrector in [`decide`](crate::decide()) takes out what is systematic.
//!
//! **Error.** Against simulation of single slots the quantiles are within a few percent;
//! [`MARGIN`] is added wherever the objective is compared with them. Batches of more than
//! [`UNITS`] rows are computed in units of several rows, which overstates their variance a little.
//!
//! **Cost.** A quantile takes about a millisecond at worst; the quantiles of one curve at 32 loads are
//! remembered per thread (a bounded memo: results do not depend on it). Curves are rounded up to 1 %,
//! so that a curve that is learned anew each second finds what is remembered. Only + − × ÷ are used, no
//! library functions that differ between machines: results are the same bits everywhere.
mod chain;
mod memo;

use crate::curve::Curve;

/// Predicted quantiles are taken this much larger before they are compared with an objective.
pub const MARGIN: f64 = 1.05;
/// Maximum units in a batch; larger batches are computed in units of several rows.
pub const UNITS: u32 = 32;
/// Number of loads at which quantiles are computed, multiples of 1 / GRID; between them they are interpolated.
const GRID: u16 = 32;

/// Model of one slot: its curve in units of arriving groups, and the quantile of interest.
#[derive(Debug, Clone, Copy)]
pub struct QueueModel {
    /// Time that every batch costs, ms.
    alpha_ms: f64,
    /// Time that every unit adds, ms.
    unit_ms: f64,
    /// Maximum units in a batch.
    units: u32,
    /// Rows in a unit.
    rows_per_unit: f64,
    quantile: f64,
}

impl QueueModel {
    /// Creates the model of a slot that serves by `curve`, which must be [usable](Curve::is_usable), for `quantile`
    /// (0 to 1) under arrivals of the given `burstiness` (index of dispersion; below 1 counts as 1).
    pub fn new(curve: &Curve, quantile: f64, burstiness: f64) -> Self {
        let rows = f64::from(curve.batch_rows_limit);
        let group = burstiness.clamp(1.0, rows).max(rows / f64::from(UNITS));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and UNITS")]
        let units = (rows / group).round().clamp(1.0, f64::from(UNITS)) as u32;
        let rows_per_unit = rows / f64::from(units);
        Self {
            alpha_ms: round_up(curve.alpha_ms),
            unit_ms: round_up(curve.beta_ms) * rows_per_unit,
            units,
            rows_per_unit,
            quantile,
        }
    }

    /// Returns the rows per second at which the slot would never pause.
    pub fn saturation_rows_per_second(&self) -> f64 {
        f64::from(self.units) * self.rows_per_unit * 1000.0 / self.batch_ms(self.units)
    }

    /// Returns the latency at the quantile, milliseconds; infinite from 31/32 of saturation on.
    pub fn quantile_ms(&self, rows_per_second: f64) -> f64 {
        let load = rows_per_second / self.saturation_rows_per_second() * f64::from(GRID);
        if load.is_nan() || load >= f64::from(GRID - 1) {
            return f64::INFINITY;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to GRID - 1")]
        let step = load.max(0.0).floor() as u16;
        let (below, above) = (self.at(step), self.at(step + 1));
        below + (above - below) * (load.max(0.0) - f64::from(step))
    }

    /// Returns the highest rate, rows per second, at which the quantile with [`MARGIN`] and `correction` is within
    /// `objective_ms`; `None` where even a lone row takes longer.
    pub fn rows_per_second_within(&self, objective_ms: f64, correction: f64) -> Option<f64> {
        let limit = objective_ms / (MARGIN * correction);
        // A lone row is served in L(1) whatever the model's error is.
        if self.batch_ms(1) > objective_ms {
            return None;
        }
        let (mut low, mut high) = (0, GRID - 1);
        while low + 1 < high {
            let middle = low.midpoint(high);
            if self.at(middle) <= limit { low = middle } else { high = middle }
        }
        let (below, above) = (self.at(low), self.at(high));
        let between = ((limit - below) / (above - below)).clamp(0.0, 1.0);
        // At the lightest load the model's quantile is already L(1) + waiting: some load is always allowed.
        let load = if between.is_nan() { f64::from(low) } else { f64::from(low) + between };
        Some(load.max(0.5) / f64::from(GRID) * self.saturation_rows_per_second())
    }

    fn batch_ms(&self, units: u32) -> f64 {
        self.alpha_ms + self.unit_ms * f64::from(units)
    }

    /// Returns the quantile at load `step` / [`GRID`], from the memo where it is there.
    fn at(&self, step: u16) -> f64 {
        memo::quantile_ms(self, step)
    }
}

/// Returns the latency at `quantile`, milliseconds, of one slot that serves `rows_per_second` of Poisson arrivals by
/// `curve`; infinite where it cannot keep up.
pub fn quantile_ms(curve: &Curve, rows_per_second: f64, quantile: f64) -> f64 {
    QueueModel::new(curve, quantile, 1.0).quantile_ms(rows_per_second)
}

/// Rounds up to the next number with 7 bits of mantissa: at most 0.8 % more.
fn round_up(value: f64) -> f64 {
    const CUT: u64 = (1 << 45) - 1;
    f64::from_bits((value.to_bits() + CUT) & !CUT)
}
