//! Goals of the batcher beside its peers, evaluated round by round, so that a change of the machine's speed affects both
//! sides. Pure.

use std::fmt;

use serde::Serialize;

use super::measure::Measurement;
use super::peer::Peer;
use super::scenario::{LoadPoint, Scenario};
use super::summary::{Spread, admitted_in_objective, goodput, select};

/// Side of a bound that meets a goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sense {
    /// The bound or more.
    AtLeast,
    /// The bound or less.
    AtMost,
}

/// Goal with its result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Goal {
    /// Description of the compared values.
    pub what: &'static str,
    /// Side of the bound that meets the goal.
    pub sense: Sense,
    pub bound: f64,
    /// Value over the rounds; `None` where it was not measured.
    pub value: Option<Spread>,
    /// Whether the median meets the goal; `None` where it was not measured.
    pub met: Option<bool>,
}

type Value = fn(&Measurement) -> Option<f64>;

const ONE: LoadPoint = LoadPoint::Clients(1);
const SIXTEEN: LoadPoint = LoadPoint::Clients(16);
const SIXTY_FOUR: LoadPoint = LoadPoint::Clients(64);
const THREE_TIMES: LoadPoint = LoadPoint::HardMaximum(3.0);

/// Evaluates all goals.
pub(crate) fn judge(measurements: &[Measurement]) -> Vec<Goal> {
    use Peer::{Direct, Haproxy, Mosec, Nginx, Sluice, SluiceOff};
    use Scenario::{Closed, Hop, Open};
    use Sense::{AtLeast, AtMost};
    let pair = |scenario, load, (mine, other), value: Value, compare: fn(f64, f64) -> f64| {
        pairs(measurements, scenario, load, mine, other, value, compare)
    };
    let alone = |scenario, load, value: Value| {
        let rounds = select(measurements, scenario, Sluice, load);
        Spread::of(rounds.into_iter().filter(|m| m.invalid_because.is_empty()).filter_map(value))
    };
    let over = |mine: f64, other: f64| mine / other;
    let more = |mine: f64, other: f64| mine - other;
    let rps: Value = |m| all_answered(m).then_some(m.throughput_rps);
    let p50: Value = |m| m.p50_ms.filter(|_| all_answered(m));
    let p99: Value = |m| m.p99_ms.filter(|_| all_answered(m));
    let cpu: Value = |m| all_answered(m).then_some(m.cpu_us_per_request);
    let goal = |what, sense, bound, value: Option<Spread>| {
        let met = value.map(|value| match sense {
            AtLeast => value.median >= bound,
            AtMost => value.median <= bound,
        });
        Goal { what, sense, bound, value, met }
    };
    vec![
        goal(
            "64 clients, req/s: Sluice / MOSEC",
            AtLeast,
            1.25,
            pair(Closed, SIXTY_FOUR, (Sluice, Mosec), rps, over),
        ),
        goal("64 clients, req/s: Sluice", AtLeast, 5400.0, alone(Closed, SIXTY_FOUR, rps)),
        goal(
            "64 clients, p99: Sluice / MOSEC",
            AtMost,
            0.7,
            pair(Closed, SIXTY_FOUR, (Sluice, Mosec), p99, over),
        ),
        goal(
            "1 client, p50 in ms: Sluice - direct",
            AtMost,
            0.05,
            pair(Closed, ONE, (Sluice, Direct), p50, more),
        ),
        goal(
            "1 client, p50 in ms: Sluice with batching off - nginx",
            AtMost,
            0.0,
            pair(Closed, ONE, (SluiceOff, Nginx), p50, more),
        ),
        goal(
            "16 clients, CPU per request: Sluice / HAProxy",
            AtMost,
            1.5,
            pair(Closed, SIXTEEN, (Sluice, Haproxy), cpu, over),
        ),
        goal(
            "16 clients, CPU per request, model that takes no time: Sluice with batching off / HAProxy",
            AtMost,
            1.5,
            pair(Hop, SIXTEEN, (SluiceOff, Haproxy), cpu, over),
        ),
        goal(
            "3 times the hard maximum: answers within the objective / hard maximum",
            AtLeast,
            0.93,
            alone(Open, THREE_TIMES, |m| Some(goodput(m))),
        ),
        goal(
            "3 times the hard maximum: answers within the objective / all answers",
            AtLeast,
            0.99,
            alone(Open, THREE_TIMES, admitted_in_objective),
        ),
    ]
}

/// Returns whether all requests were answered: latency of only a part of them would look too good.
fn all_answered(measurement: &Measurement) -> bool {
    measurement.answered == measurement.requests
}

fn pairs(
    measurements: &[Measurement],
    scenario: Scenario,
    load: LoadPoint,
    mine: Peer,
    other: Peer,
    value: Value,
    compare: fn(f64, f64) -> f64,
) -> Option<Spread> {
    let (mine, others) =
        (select(measurements, scenario, mine, load), select(measurements, scenario, other, load));
    Spread::of(mine.into_iter().filter_map(|mine| {
        let other = others.iter().find(|other| other.round == mine.round)?;
        Some(compare(value(mine)?, value(other)?))
    }))
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.sense {
            Sense::AtLeast => ">=",
            Sense::AtMost => "<=",
        };
        let decimals = if self.bound >= 100.0 { 0 } else { 3 };
        let verdict = match self.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "NOT MEASURED",
        };
        match self.value {
            Some(Spread { min, median, max }) => write!(
                f,
                "{verdict:<12}  {}: {median:.decimals$} ({min:.decimals$} to {max:.decimals$}), goal {sign} {}",
                self.what, self.bound
            ),
            None => write!(f, "{verdict:<12}  {}, goal {sign} {}", self.what, self.bound),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(peer: Peer, load: LoadPoint, round: usize, throughput_rps: f64, p50_ms: f64) -> Measurement {
        Measurement {
            scenario: Scenario::Closed,
            peer,
            load,
            round,
            requests: 100,
            answered: 100,
            attained: 100,
            rejected: 0,
            rejected_retry_after: 0,
            failed: 0,
            lost: 0,
            throughput_rps,
            attained_rps: throughput_rps,
            p50_ms: Some(p50_ms),
            p99_ms: Some(2.0 * p50_ms),
            cpu_us_per_request: 10.0,
            generator_busy: 0.1,
            invalid_because: Vec::new(),
        }
    }

    fn found<'a>(goals: &'a [Goal], what: &str) -> &'a Goal {
        goals.iter().find(|goal| goal.what == what).unwrap()
    }

    #[test]
    fn sides_are_compared_within_their_round() {
        // The machine is slower from round to round; the difference is not.
        let measurements: Vec<Measurement> = (0..3)
            .flat_map(|round| {
                let drift = round as f64 * 10.0;
                [
                    measured(Peer::Sluice, ONE, round, 480.0, 2.125 + drift),
                    measured(Peer::Direct, ONE, round, 480.0, 2.0 + drift),
                ]
            })
            .collect();
        let goals = judge(&measurements);
        let added = found(&goals, "1 client, p50 in ms: Sluice - direct");
        assert_eq!(added.value, Some(Spread { min: 0.125, median: 0.125, max: 0.125 }));
        assert_eq!(added.met, Some(false));
    }

    #[test]
    fn a_peer_that_lost_requests_or_was_not_there_decides_nothing() {
        let mut mosec = measured(Peer::Mosec, SIXTY_FOUR, 0, 4000.0, 14.0);
        let sluice = measured(Peer::Sluice, SIXTY_FOUR, 0, 5500.0, 9.0);
        let what = "64 clients, req/s: Sluice / MOSEC";
        assert_eq!(found(&judge(&[sluice.clone(), mosec.clone()]), what).met, Some(true));
        assert_eq!(found(&judge(std::slice::from_ref(&sluice)), what).met, None);
        mosec.answered -= 1;
        mosec.lost += 1;
        assert_eq!(found(&judge(&[sluice, mosec]), what).met, None);
    }

    #[test]
    fn an_invalid_run_decides_nothing() {
        let mut overload = measured(Peer::Sluice, THREE_TIMES, 0, 750.0, 200.0);
        overload.scenario = Scenario::Open;
        let what = "3 times the hard maximum: answers within the objective / hard maximum";
        assert_eq!(found(&judge(std::slice::from_ref(&overload)), what).met, Some(true));
        overload.invalid_because = vec!["the generator was late itself".into()];
        assert_eq!(found(&judge(&[overload]), what).met, None);
    }
}
