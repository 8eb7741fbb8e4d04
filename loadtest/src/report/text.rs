//! Report as plain text.

use std::fmt::Write;

use super::{Report, SEND_LAG_LIMIT_MS};
use crate::record::{Interval, Quantiles};

/// Returns the line that is printed for an interval during the run.
pub(crate) fn live_line(interval: &Interval) -> String {
    let ms = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.1}"));
    let per_second = |count: u64| count as f64 / interval.length_s.max(1e-9);
    let counts = &interval.counts;
    format!(
        "{:7.1} s  sent {:7.1}/s  answered {:7.1}/s  p50 {:>7} ms  p99 {:>7} ms  in flight {:5}  rejected {}  failed {}  lost {}",
        interval.t_s,
        per_second(interval.sent),
        per_second(counts.answered),
        ms(interval.p50_ms),
        ms(interval.p99_ms),
        interval.in_flight,
        counts.rejected,
        counts.failed,
        counts.lost,
    )
}

/// Formats a time in seconds since 1970 as date and time of day, UTC.
pub(crate) fn clock_of(unix_s: f64) -> String {
    let at = jiff::Timestamp::from_second(unix_s as i64).unwrap_or_default();
    at.strftime("%F %T UTC").to_string()
}

/// Returns the report as text.
pub(crate) fn report(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_report(&mut out, report);
    out
}

fn write_report(out: &mut String, report: &Report) -> std::fmt::Result {
    let share = |count: u64| 100.0 * count as f64 / report.requests.max(1) as f64;
    let counts = &report.counts;
    writeln!(out, "\n{} → {}", report.name, report.target)?;
    writeln!(out, "  {}", report.load)?;
    writeln!(out, "  {}", report.payload)?;
    if report.stopped_early {
        writeln!(out, "  stopped before its end")?;
    }
    writeln!(
        out,
        "\n  requests    {:>9}  in {:.1} s: {:.1}/s sent, {:.1}/s answered",
        report.requests, report.duration_s, report.offered_rps, report.throughput_rps
    )?;
    for (name, count) in [
        ("answered", counts.answered),
        ("rejected", counts.rejected),
        ("failed", counts.failed),
        ("lost", counts.lost),
    ] {
        writeln!(out, "  {name:<11} {count:>9}  {:6.2} %", share(count))?;
    }
    for (kind, count) in &report.lost_kinds {
        writeln!(out, "    lost as {kind}: {count}")?;
    }
    for (status, count) in &report.failures {
        writeln!(out, "    failed with {status}: {count}")?;
    }
    for example in &report.wrong_examples {
        writeln!(out, "    wrong: {example}")?;
    }
    if let (Some(objective), Some(attainment)) = (report.objective_ms, report.attainment) {
        writeln!(
            out,
            "  attainment  {:>9.3} %  of all requests answered within {objective} ms",
            attainment * 100.0
        )?;
    }
    write_quantiles(out, "latency", report.latency.as_ref())?;
    if !report.closed_loop {
        write_quantiles(out, "send lag", report.send_lag.as_ref())?;
    }
    if report.by_protocol.len() > 1 {
        for (protocol, part) in &report.by_protocol {
            write!(out, "  {protocol:<11} {:>9}  requests, {} lost", part.requests, part.counts.lost)?;
            match &part.latency {
                Some(latency) => {
                    writeln!(out, ", p50 {:.3} ms, p99 {:.3} ms", latency.p50_ms, latency.p99_ms)?
                }
                None => writeln!(out)?,
            }
        }
    }
    for judged in &report.thresholds {
        let verdict = if judged.passed { "ok      " } else { "VIOLATED" };
        let value = judged.value.map_or_else(|| "no value".to_owned(), |value| format!("{value:.4}"));
        writeln!(out, "  {verdict} {} (is {value})", judged.threshold)?;
    }
    if !report.valid {
        writeln!(out, "\n  INVALID: these numbers are not the target's.")?;
        for reason in &report.invalid_because {
            writeln!(out, "  {reason}")?;
        }
    } else if !report.closed_loop {
        writeln!(out, "  valid: send lag p99 is below {SEND_LAG_LIMIT_MS} ms and everything was sent")?;
    }
    Ok(())
}

fn write_quantiles(out: &mut String, name: &str, quantiles: Option<&Quantiles>) -> std::fmt::Result {
    let Some(q) = quantiles else { return writeln!(out, "  {name:<11}         –") };
    writeln!(
        out,
        "  {name:<11} p50 {:.3}  p90 {:.3}  p95 {:.3}  p99 {:.3}  p99.9 {:.3}  max {:.3} ms",
        q.p50_ms, q.p90_ms, q.p95_ms, q.p99_ms, q.p99_9_ms, q.max_ms
    )
}
