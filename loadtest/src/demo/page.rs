//! The demo's report as one self-contained HTML page: the comparison, charts over the trace, and the settings of the
//! run.

use super::outcome::{ArmOutcome, DemoOutcome, Sample};
use super::settings::DemoSettings;
use super::table;
use crate::report::chart::{Chart, Color, Limit, Series, Style};
use crate::report::page::{Cell, Page, Tone};

/// Renders the page.
pub(crate) fn html(outcome: &DemoOutcome, settings: &DemoSettings, strict: bool) -> String {
    let mut page = Page::new(
        "Sluice on one machine",
        "The same day of a real trace, three ways. GPUs and inference are simulated; every process, socket, claim \
         and decision is real.",
    );
    let failures = outcome.failures(strict);
    if failures.is_empty() {
        page.banner(Tone::Good, "Nothing lost, scaled up and down, nothing left behind.");
    } else {
        page.banner(Tone::Bad, &failures.join("; "));
    }
    let rows: Vec<Vec<Cell>> = outcome.arms.iter().map(|arm| cells(arm, outcome)).collect();
    page.table(&table::COLUMNS, &rows);
    page.note(&format!(
        "Attainment: correct answers within {} ms over all requests sent; the objective is {:.1} %. A 429 is an \
         answer, and a miss. Slice-seconds: from the start of prepare to the end of unprepare, by the driver's \
         own counter. Latency: from the intended send time.",
        outcome.objective_ms,
        outcome.objective_attainment * 100.0
    ));
    for warning in table::late_generators(outcome) {
        page.note(&warning);
    }
    page.heading("Over the trace");
    for chart in charts(outcome) {
        page.chart(&chart);
    }
    page.heading("How it was run");
    page.note(&format!(
        "Trace {}: one day in {} s, {:.0} times faster than it was recorded, {} requests per second at its peak. \
         Windows are compressed with it, as these settings (loadtest/scenarios/demo.yaml) say; the model's times are not.",
        settings.trace,
        settings.duration_seconds,
        settings.compression(),
        settings.peak_rps
    ));
    if let Ok(text) = serde_saphyr::to_string(settings) {
        page.push(&format!("<pre>{}</pre>", crate::report::page::escape(&text)));
    }
    page.html()
}

fn cells(arm: &ArmOutcome, outcome: &DemoOutcome) -> Vec<Cell> {
    let mut cells: Vec<Cell> = table::row(arm).into_iter().map(Cell::from).collect();
    cells[2].tone = Tone::of(arm.load.lost == 0);
    cells[4].tone = Tone::of(arm.load.attainment >= outcome.objective_attainment);
    cells
}

fn charts(outcome: &DemoOutcome) -> Vec<Chart> {
    let colors = [Color::Blue, Color::Orange, Color::Purple];
    let end = outcome.arms.iter().flat_map(|arm| &arm.samples).map(|sample| sample.t_s).max().unwrap_or(1);
    let per_arm = |style: Style, value: fn(&Sample) -> f64| -> Vec<Series> {
        outcome
            .arms
            .iter()
            .zip(colors)
            .map(|(arm, color)| series(&arm.name, color, style, arm, value))
            .collect()
    };
    let chart = |title: &str, y_label: &str, series: Vec<Series>| Chart {
        title: title.to_owned(),
        x_label: "seconds from the start".to_owned(),
        y_label: y_label.to_owned(),
        series,
        x_range: Some((0.0, f64::from(end))),
        ..Chart::default()
    };
    let mut charts = Vec::new();
    if let Some(first) = outcome.arms.first() {
        charts.push(chart(
            "Load (the same for all)",
            "requests per second",
            vec![series("sent", Color::Grey, Style::Area, first, |sample| sample.sent as f64)],
        ));
    }
    charts.push(Chart {
        limits: vec![Limit {
            y: f64::from(outcome.objective_ms),
            name: format!("objective {} ms", outcome.objective_ms),
        }],
        ..chart(
            "p99 latency of answers, per second",
            "milliseconds",
            per_arm(Style::Line, |sample| sample.p99_ms),
        )
    });
    charts.push(chart(
        "Rejected (429)",
        "requests per second",
        per_arm(Style::Line, |sample| sample.rejected as f64),
    ));
    charts.push(chart("Slices in use", "slices", per_arm(Style::Line, |sample| sample.slices_in_use)));
    if let Some(first) = outcome.arms.first() {
        charts.push(chart(
            &format!("Replicas of {}", first.name),
            "replicas",
            vec![
                series("asked for", Color::Grey, Style::StepArea, first, |sample| sample.desired_replicas),
                series("ready", Color::Blue, Style::Line, first, |sample| sample.ready_replicas),
            ],
        ));
    }
    charts.push(chart("Waiting in the gateway", "rows", per_arm(Style::Line, |sample| sample.queue_rows)));
    charts
}

fn series(name: &str, color: Color, style: Style, arm: &ArmOutcome, value: fn(&Sample) -> f64) -> Series {
    let points = arm.samples.iter().map(|sample| (f64::from(sample.t_s), Some(value(sample))));
    Series::new(name, color, style, points)
}
