//! Formats the comparison as a text table.

use std::fmt::Write;

use super::outcome::{ArmOutcome, DemoOutcome};
use crate::report::SEND_LAG_LIMIT_MS;

/// Columns of the table, which has one row per arm.
pub(crate) const COLUMNS: [&str; 9] =
    ["", "requests", "lost", "429", "attainment", "p50 ms", "p99 ms", "slice-seconds", "replicas"];

/// Returns the cells of one arm, as in [`COLUMNS`].
pub(crate) fn row(arm: &ArmOutcome) -> [String; 9] {
    let replicas = match arm.static_replicas {
        Some(replicas) => format!("{replicas} fixed"),
        None => format!(
            "up to {} ({} up, {} down)",
            arm.scaling.max_replicas, arm.scaling.scale_ups, arm.scaling.scale_downs
        ),
    };
    [
        arm.name.clone(),
        arm.load.requests.to_string(),
        arm.load.lost.to_string(),
        arm.load.rejected.to_string(),
        format!("{:.2} %", arm.load.attainment * 100.0),
        format!("{:.1}", arm.load.p50_ms),
        format!("{:.1}", arm.load.p99_ms),
        format!("{:.1}", arm.slice_seconds),
        replicas,
    ]
}

/// Returns the whole table with an explanation of its columns.
pub(crate) fn text(outcome: &DemoOutcome) -> String {
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    rows.extend(outcome.arms.iter().map(row));
    let widths: Vec<usize> = (0..COLUMNS.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::from("\n");
    for row in &rows {
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a String cannot fail.
            let _ = write!(text, "{cell:>width$}  ");
        }
        text.push('\n');
    }
    let _ = writeln!(
        text,
        "\nattainment: correct answers within {} ms over all requests sent (objective {:.1} %). slice-seconds: from \
         the start\nof prepare to the end of unprepare, by the driver's own counter. GPUs and inference are \
         simulated; all else is real.",
        outcome.objective_ms,
        outcome.objective_attainment * 100.0
    );
    for warning in late_generators(outcome) {
        let _ = writeln!(text, "{warning}");
    }
    text
}

/// Returns a warning for each arm whose generator sent late: its latencies include delays of the machine.
pub(crate) fn late_generators(outcome: &DemoOutcome) -> Vec<String> {
    let late = outcome.arms.iter().filter(|arm| arm.load.send_lag_p99_ms > SEND_LAG_LIMIT_MS);
    late.map(|arm| {
        format!(
            "{}: the machine was busy: 1 % of the requests were sent {:.1} ms late or more, which their latency includes.",
            arm.name, arm.load.send_lag_p99_ms
        )
    })
    .collect()
}
