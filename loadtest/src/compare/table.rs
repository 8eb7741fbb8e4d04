//! Formats the result as text: a Markdown table per scenario, peers that were not measured, goals.

use std::fmt;

use serde::Serialize;

use super::goals::Goal;
use super::measure::Measurement;
use super::peer::Peer;
use super::scenario::Scenario;
use super::summary::{Row, Spread};

/// CPU share of the generator, in cores, above which it may limit a closed loop.
const GENERATOR_LIMIT: f64 = 0.9;

/// Result of a comparison.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Outcome {
    /// Description of the conditions of the measurement.
    pub what: String,
    /// Peers with their versions.
    pub versions: Vec<(Peer, String)>,
    /// Results, one per peer and load.
    pub rows: Vec<Row>,
    /// Peers that could not be measured.
    pub absent: Vec<Absent>,
    /// Goals with their results.
    pub goals: Vec<Goal>,
    /// All measurements.
    pub measurements: Vec<Measurement>,
}

/// Peer that could not be measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Absent {
    pub scenario: Scenario,
    pub peer: Peer,
    /// Number of the round, from 0.
    pub round: usize,
    pub reason: String,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.what)?;
        let versions: Vec<String> =
            self.versions.iter().map(|(peer, version)| format!("{peer}: {version}")).collect();
        writeln!(f, "{}", versions.join("; "))?;
        for scenario in Scenario::ALL {
            let rows: Vec<&Row> = self.rows.iter().filter(|row| row.scenario == scenario).collect();
            let absent: Vec<&Absent> =
                self.absent.iter().filter(|absent| absent.scenario == scenario).collect();
            if rows.is_empty() && absent.is_empty() {
                continue;
            }
            head(f, scenario)?;
            for row in rows {
                if scenario == Scenario::Open { open_row(f, row)? } else { closed_row(f, row)? }
            }
            for Absent { peer, round, reason, .. } in absent {
                let reason = reason.replace('|', "/").replace('\n', " ");
                writeln!(f, "| – | {peer} | NOT MEASURED in round {}: {reason} |", round + 1)?;
            }
        }
        writeln!(f)?;
        self.goals.iter().try_for_each(|goal| writeln!(f, "{goal}"))
    }
}

fn head(f: &mut fmt::Formatter<'_>, scenario: Scenario) -> fmt::Result {
    let model = scenario.model();
    let (alpha_ms, beta_ms, rows) = (model.alpha_ms, model.beta_ms, model.max_batch_rows);
    writeln!(
        f,
        "\nSimulated model of {alpha_ms} ms + {beta_ms} ms per row, at most {rows} rows, one batch at a time."
    )?;
    if let Some(objective_ms) = scenario.objective_ms() {
        let maximum = model.hard_maximum_rps();
        writeln!(f, "Open loop, Poisson; objective {objective_ms} ms; hard maximum {maximum:.0} rows/s.\n")?;
        writeln!(
            f,
            "| load | | goodput / hard maximum % | in objective of answered % | 429 % (with Retry-After) | other errors % | p99 ms |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|")
    } else {
        writeln!(f, "Closed loop.\n")?;
        writeln!(f, "| load | | req/s | p50 ms | p99 ms | CPU µs per request |\n|---|---|---|---|---|---|")
    }
}

fn closed_row(f: &mut fmt::Formatter<'_>, row: &Row) -> fmt::Result {
    write!(
        f,
        "| {} | {} | {} | {} | {} | {} |",
        row.load,
        row.peer,
        spread(Some(row.throughput_rps), 0),
        spread(row.p50_ms, 3),
        spread(row.p99_ms, 3),
        spread(Some(row.cpu_us_per_request), 1)
    )?;
    let not_answered = row.rejected + row.failed + row.lost;
    if not_answered > 0 {
        write!(f, " {not_answered} of {} NOT ANSWERED |", row.requests)?;
    }
    remarks(f, row)
}

fn open_row(f: &mut fmt::Formatter<'_>, row: &Row) -> fmt::Result {
    let percent = |spread: Spread| Spread {
        min: spread.min * 100.0,
        median: spread.median * 100.0,
        max: spread.max * 100.0,
    };
    let share = |count: u64| 100.0 * count as f64 / (row.requests as f64).max(1.0);
    write!(
        f,
        "| {} | {} | {} | {} | {:.1} ({:.1}) | {:.1} | {} |",
        row.load,
        row.peer,
        spread(Some(percent(row.goodput)), 1),
        spread(row.admitted_in_objective.map(percent), 1),
        share(row.rejected),
        share(row.rejected_retry_after),
        share(row.failed + row.lost),
        spread(row.p99_ms, 1)
    )?;
    remarks(f, row)
}

fn remarks(f: &mut fmt::Formatter<'_>, row: &Row) -> fmt::Result {
    if row.generator_busy > GENERATOR_LIMIT {
        write!(f, " the generator used {:.0} % of a core |", row.generator_busy * 100.0)?;
    }
    if let Some(first) = row.invalid_because.first() {
        write!(f, " INVALID: {first} |")?;
    }
    writeln!(f)
}

fn spread(spread: Option<Spread>, decimals: usize) -> String {
    spread.map_or("–".to_owned(), |Spread { min, median, max }| {
        format!("{median:.decimals$} ({min:.decimals$} to {max:.decimals$})")
    })
}
