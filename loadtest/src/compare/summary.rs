//! From measurements to rows: smallest, median and largest over the rounds. Pure.

use serde::Serialize;

use super::measure::Measurement;
use super::peer::Peer;
use super::scenario::{LoadPoint, Scenario};

/// Smallest, median and largest value of the rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub min: f64,
    /// Median; for an even number of rounds the mean of the middle two.
    pub median: f64,
    pub max: f64,
}

impl Spread {
    /// Computes the spread of the values; `None` without a value.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { min, median, max })
    }
}

/// Result of one peer under one load, over all rounds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub scenario: Scenario,
    pub peer: Peer,
    pub load: LoadPoint,
    /// Answers per second.
    pub throughput_rps: Spread,
    /// Median latency; `None` where a round had no answer.
    pub p50_ms: Option<Spread>,
    /// 99th percentile of the latency; `None` where a round had no answer.
    pub p99_ms: Option<Spread>,
    /// CPU time of the peer per request, microseconds.
    pub cpu_us_per_request: Spread,
    /// Answers within the objective ÷ the hard maximum.
    pub goodput: Spread,
    /// Answers within the objective ÷ all answers; `None` where a round had no answer.
    pub admitted_in_objective: Option<Spread>,
    /// Requests sent in all rounds.
    pub requests: u64,
    /// Responses 429 in all rounds.
    pub rejected: u64,
    /// Responses 429 with `Retry-After` in all rounds.
    pub rejected_retry_after: u64,
    /// Other error responses in all rounds.
    pub failed: u64,
    /// Lost requests in all rounds.
    pub lost: u64,
    /// Largest share of one core that the generator used in a round.
    pub generator_busy: f64,
    /// Reasons why rounds measured the generator and not the peer; empty where all rounds are valid.
    pub invalid_because: Vec<String>,
}

/// Summarizes `measurements` as rows, in the order of scenarios, loads and peers.
pub(crate) fn rows(measurements: &[Measurement]) -> Vec<Row> {
    let mut rows = Vec::new();
    for scenario in Scenario::ALL {
        for load in scenario.loads().iter().copied() {
            for peer in Peer::ALL {
                rows.extend(row(&select(measurements, scenario, peer, load)));
            }
        }
    }
    rows
}

/// Selects the rounds of one peer under one load.
pub(crate) fn select(
    measurements: &[Measurement],
    scenario: Scenario,
    peer: Peer,
    load: LoadPoint,
) -> Vec<&Measurement> {
    measurements.iter().filter(|m| (m.scenario, m.peer, m.load) == (scenario, peer, load)).collect()
}

fn row(rounds: &[&Measurement]) -> Option<Row> {
    let first = rounds.first()?;
    let spread = |value: fn(&Measurement) -> f64| Spread::of(rounds.iter().map(|m| value(m)));
    let spread_of = |value: fn(&Measurement) -> Option<f64>| {
        Spread::of(rounds.iter().map(|m| value(m)).collect::<Option<Vec<f64>>>()?)
    };
    let sum = |value: fn(&Measurement) -> u64| rounds.iter().map(|m| value(m)).sum();
    Some(Row {
        scenario: first.scenario,
        peer: first.peer,
        load: first.load,
        throughput_rps: spread(|m| m.throughput_rps)?,
        p50_ms: spread_of(|m| m.p50_ms),
        p99_ms: spread_of(|m| m.p99_ms),
        cpu_us_per_request: spread(|m| m.cpu_us_per_request)?,
        goodput: spread(goodput)?,
        admitted_in_objective: spread_of(admitted_in_objective),
        requests: sum(|m| m.requests),
        rejected: sum(|m| m.rejected),
        rejected_retry_after: sum(|m| m.rejected_retry_after),
        failed: sum(|m| m.failed),
        lost: sum(|m| m.lost),
        generator_busy: rounds.iter().map(|m| m.generator_busy).fold(0.0, f64::max),
        invalid_because: rounds.iter().flat_map(|m| m.invalid_because.clone()).collect(),
    })
}

/// Answers within the objective ÷ the hard maximum.
pub(crate) fn goodput(measurement: &Measurement) -> f64 {
    measurement.attained_rps / measurement.scenario.model().hard_maximum_rps()
}

/// Answers within the objective ÷ all answers.
pub(crate) fn admitted_in_objective(measurement: &Measurement) -> Option<f64> {
    (measurement.answered > 0).then(|| measurement.attained as f64 / measurement.answered as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        assert_eq!(Spread::of([4.0, 1.0, 3.0, 2.0]), Some(Spread { min: 1.0, median: 2.5, max: 4.0 }));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn hard_maxima_are_those_of_full_batches() {
        assert_eq!(Scenario::Closed.model().hard_maximum_rps().round(), 7619.0);
        assert_eq!(Scenario::Open.model().hard_maximum_rps().round(), 762.0);
        assert!(Scenario::Hop.model().hard_maximum_rps().is_infinite());
    }
}
