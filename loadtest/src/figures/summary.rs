//! From measurements to figures: smallest, median and largest over the rounds. Pure.

use std::fmt;

use serde::Serialize;

use super::settings::Settings;

/// A side of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// The reference model alone.
    Model,
    /// The same behind the batcher.
    Batcher,
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Model => "model alone",
            Self::Batcher => "through the batcher",
        })
    }
}

/// One side, one concurrency, one round.
#[derive(Debug, Clone, Serialize)]
pub struct Measurement {
    /// Which round, from 0.
    pub round: usize,
    /// Which side.
    pub arm: Arm,
    /// Clients of the closed loop.
    pub concurrency: usize,
    /// Requests, all answered correctly.
    pub requests: u64,
    /// Answers per second.
    pub throughput_rps: f64,
    /// Median latency.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "round {}  {:<20} {:>3} clients  {:>8.1} req/s  p50 {:>8.3} ms  p99 {:>8.3} ms",
            self.round + 1,
            self.arm,
            self.concurrency,
            self.throughput_rps,
            self.p50_ms,
            self.p99_ms
        )
    }
}

/// Smallest, median and largest of the rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Smallest.
    pub min: f64,
    /// Median; of an even number of rounds the mean of the middle two.
    pub median: f64,
    /// Largest.
    pub max: f64,
}

impl Spread {
    /// Of at least one value.
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Self { min, median, max })
    }
}

/// One side under one concurrency.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Which side.
    pub arm: Arm,
    /// Clients.
    pub concurrency: usize,
    /// Answers per second.
    pub throughput_rps: Spread,
    /// Median latency.
    pub p50_ms: Spread,
    /// 99th percentile.
    pub p99_ms: Spread,
}

/// The batcher against the model alone under one concurrency, compared round by round.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// Clients.
    pub concurrency: usize,
    /// Median latency through the batcher minus that of the model alone.
    pub added_p50_ms: Spread,
    /// Answers per second through the batcher ÷ those of the model alone.
    pub throughput_ratio: Spread,
}

/// The figures.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// What they hold for, in words.
    pub what: String,
    /// The most rows per second that one slot of this model can give: cap ÷ (α + β·cap).
    pub model_limit_rps: f64,
    /// Each side.
    pub rows: Vec<Row>,
    /// Side against side.
    pub comparisons: Vec<Comparison>,
    /// All measurements.
    pub measurements: Vec<Measurement>,
}

impl Summary {
    /// Of the measurements of a run.
    pub fn of(settings: &Settings, measurements: Vec<Measurement>) -> Self {
        let cap = settings.max_batch_rows as f64;
        let select = |arm: Arm, concurrency: usize, value: fn(&Measurement) -> f64| -> Vec<f64> {
            let mine = measurements.iter().filter(|m| m.arm == arm && m.concurrency == concurrency);
            mine.map(value).collect()
        };
        let mut rows = Vec::new();
        let mut comparisons = Vec::new();
        for concurrency in settings.concurrency.iter().copied() {
            for arm in [Arm::Model, Arm::Batcher] {
                let spread = |value| Spread::of(select(arm, concurrency, value));
                if let (Some(throughput_rps), Some(p50_ms), Some(p99_ms)) =
                    (spread(|m| m.throughput_rps), spread(|m| m.p50_ms), spread(|m| m.p99_ms))
                {
                    rows.push(Row { arm, concurrency, throughput_rps, p50_ms, p99_ms });
                }
            }
            let paired = |value: fn(&Measurement) -> f64, compare: fn(f64, f64) -> f64| {
                let (alone, through) =
                    (select(Arm::Model, concurrency, value), select(Arm::Batcher, concurrency, value));
                Spread::of(
                    alone.into_iter().zip(through).map(|(alone, through)| compare(alone, through)).collect(),
                )
            };
            if let (Some(added_p50_ms), Some(throughput_ratio)) = (
                paired(|m| m.p50_ms, |alone, through| through - alone),
                paired(|m| m.throughput_rps, |alone, through| through / alone),
            ) {
                comparisons.push(Comparison { concurrency, added_p50_ms, throughput_ratio });
            }
        }
        Self {
            what: format!(
                "reference model (simulated inference) of {} ms + {} ms per row, at most {} rows, one slot; {}, one row \
                 per request, closed loop, {} rounds of {:.1} s, median (smallest to largest)",
                settings.alpha_ms,
                settings.beta_ms,
                settings.max_batch_rows,
                settings.protocol,
                settings.rounds,
                settings.duration_ms as f64 / 1e3
            ),
            model_limit_rps: cap / (settings.alpha_ms + settings.beta_ms * cap) * 1e3,
            rows,
            comparisons,
            measurements,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spread = |spread: &Spread, decimals: usize| {
            let Spread { min, median, max } = spread;
            format!("{median:.decimals$} ({min:.decimals$} to {max:.decimals$})")
        };
        writeln!(f, "{}\n", self.what)?;
        writeln!(f, "| clients | | req/s | p50 ms | p99 ms |\n|---|---|---|---|---|")?;
        for row in &self.rows {
            writeln!(
                f,
                "| {} | {} | {} | {} | {} |",
                row.concurrency,
                row.arm,
                spread(&row.throughput_rps, 0),
                spread(&row.p50_ms, 3),
                spread(&row.p99_ms, 3)
            )?;
        }
        writeln!(f)?;
        for comparison in &self.comparisons {
            writeln!(
                f,
                "{} client(s): the batcher adds {} ms to the median and gives {} times the requests/s.",
                comparison.concurrency,
                spread(&comparison.added_p50_ms, 3),
                spread(&comparison.throughput_ratio, 2)
            )?;
        }
        write!(f, "The model's own limit with full batches is {:.0} rows/s.", self.model_limit_rps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement(round: usize, arm: Arm, throughput_rps: f64, p50_ms: f64) -> Measurement {
        Measurement { round, arm, concurrency: 1, requests: 1, throughput_rps, p50_ms, p99_ms: p50_ms }
    }

    #[test]
    fn sides_are_compared_within_their_round() {
        let settings = Settings { concurrency: vec![1], rounds: 3, ..Settings::default() };
        // The machine is slower from round to round; the difference is not.
        let measurements = (0..3).flat_map(|round| {
            let drift = round as f64 * 10.0;
            [
                measurement(round, Arm::Batcher, 200.0, 2.5 + drift),
                measurement(round, Arm::Model, 100.0, 2.0 + drift),
            ]
        });
        let summary = Summary::of(&settings, measurements.collect());
        let comparison = &summary.comparisons[0];
        assert_eq!(comparison.added_p50_ms, Spread { min: 0.5, median: 0.5, max: 0.5 });
        assert_eq!(comparison.throughput_ratio.median, 2.0);
        assert_eq!(summary.rows[0].p50_ms, Spread { min: 2.0, median: 12.0, max: 22.0 });
        assert_eq!(summary.model_limit_rps.round(), 7619.0);
    }

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        assert_eq!(Spread::of(vec![4.0, 1.0, 3.0, 2.0]).map(|spread| spread.median), Some(2.5));
        assert_eq!(Spread::of(vec![]), None);
    }
}
