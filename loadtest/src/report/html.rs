//! Report as a page with charts over time.

use super::Report;
use super::chart::{Chart, Color, Limit, Series, Style};
use super::page::{Cell, Page, Tone};
use super::text::clock_of;
use crate::record::{Interval, Quantiles};

/// Returns the report of a run as a self-contained page.
pub(crate) fn run_page(report: &Report) -> String {
    let lead = format!("{} → {}", clock_of(report.started_unix_s), report.target);
    let mut page = Page::new(&report.name, &lead);
    banner(&mut page, report);
    tiles(&mut page, report);
    page.note(&format!("Sent: {}. {}.", report.load, capitalised(&report.payload)));
    page.heading("Over time");
    for chart in charts(report) {
        page.chart(&chart);
    }
    page.heading("Latency");
    latency_table(&mut page, report);
    fates(&mut page, report);
    thresholds(&mut page, report);
    page.html()
}

fn banner(page: &mut Page, report: &Report) {
    if !report.valid {
        page.banner(Tone::Bad, &format!("Invalid run: {}.", report.invalid_because.join("; ")));
    } else if !report.passed() {
        let violated = report.thresholds.iter().filter(|judged| !judged.passed);
        let names: Vec<&str> = violated.map(|judged| judged.threshold.as_str()).collect();
        page.banner(Tone::Bad, &format!("Violated: {}.", names.join(", ")));
    } else if !report.thresholds.is_empty() {
        page.banner(Tone::Good, "All thresholds held.");
    }
    if report.stopped_early {
        page.banner(Tone::Plain, "Stopped before its end.");
    }
}

fn tiles(page: &mut Page, report: &Report) {
    let counts = &report.counts;
    let ms = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.1} ms"));
    let latency = report.latency.as_ref();
    let mut tiles = vec![
        (
            "Requests",
            report.requests.to_string(),
            Tone::Plain,
            format!("{:.1} per second", report.offered_rps),
        ),
        (
            "Answered",
            counts.answered.to_string(),
            Tone::Plain,
            format!("{:.1} per second", report.throughput_rps),
        ),
        ("Lost", counts.lost.to_string(), Tone::of(counts.lost == 0), "no answer, or a wrong one".into()),
        ("Rejected", counts.rejected.to_string(), Tone::Plain, "429".into()),
        ("p50", ms(latency.map(|latency| latency.p50_ms)), Tone::Plain, "of correct answers".into()),
        ("p99", ms(latency.map(|latency| latency.p99_ms)), Tone::Plain, "from the intended time".into()),
    ];
    if let (Some(attainment), Some(objective)) = (report.attainment, report.objective_ms) {
        let value = format!("{:.2} %", attainment * 100.0);
        tiles.push(("Attainment", value, Tone::Plain, format!("of all within {objective} ms")));
    }
    if let Some(lag) = &report.send_lag {
        let tone = Tone::of(report.valid);
        tiles.push(("Send lag p99", format!("{:.2} ms", lag.p99_ms), tone, "the generator's own".into()));
    }
    page.tiles(&tiles);
}

/// Adds the charts of a run, all on one time axis.
pub(crate) fn charts(report: &Report) -> Vec<Chart> {
    let end = report.series.last().map_or(1.0, |interval| interval.t_s);
    let line = |name: &str, color, style, value: fn(&Interval) -> Option<f64>| {
        Series::new(name, color, style, report.series.iter().map(|interval| (interval.t_s, value(interval))))
    };
    let chart = |title: &str, y_label: &str, series: Vec<Series>| Chart {
        title: title.into(),
        x_label: "seconds from the start".into(),
        y_label: y_label.into(),
        series,
        x_range: Some((0.0, end)),
        ..Chart::default()
    };
    let mut requests = vec![
        line("sent", Color::Grey, Style::Area, |i| Some(i.sent as f64 / i.length_s)),
        line("answered", Color::Blue, Style::Line, |i| Some(i.counts.answered as f64 / i.length_s)),
    ];
    if report.counts.rejected > 0 {
        requests.push(line("rejected", Color::Orange, Style::Line, |i| {
            Some(i.counts.rejected as f64 / i.length_s)
        }));
    }
    if report.counts.lost + report.counts.failed > 0 {
        requests.push(line("lost or failed", Color::Red, Style::Line, |i| {
            Some((i.counts.lost + i.counts.failed) as f64 / i.length_s)
        }));
    }
    let mut charts = vec![
        chart("Requests", "requests per second", requests),
        Chart {
            limits: report
                .objective_ms
                .map(|y| Limit { y, name: format!("objective {y} ms") })
                .into_iter()
                .collect(),
            ..chart(
                "Latency of correct answers",
                "milliseconds",
                vec![
                    line("p99", Color::Orange, Style::Line, |i| i.p99_ms),
                    line("p50", Color::Blue, Style::Line, |i| i.p50_ms),
                ],
            )
        },
        chart(
            "In flight",
            "requests",
            vec![line("without an answer yet", Color::Purple, Style::StepArea, |i| Some(i.in_flight as f64))],
        ),
    ];
    if report.send_lag.is_some() {
        charts.push(Chart {
            limits: vec![Limit { y: super::SEND_LAG_LIMIT_MS, name: "limit for the whole run".into() }],
            ..chart(
                "Send lag of the generator",
                "milliseconds",
                vec![line("p99", Color::Green, Style::Line, |i| i.send_lag_p99_ms)],
            )
        });
    }
    charts
}

fn latency_table(page: &mut Page, report: &Report) {
    let row = |name: String, quantiles: Option<&Quantiles>| {
        let mut row: Vec<Cell> = vec![name.into()];
        match quantiles {
            Some(q) => {
                let values = [q.mean_ms, q.p50_ms, q.p90_ms, q.p95_ms, q.p99_ms, q.p99_9_ms, q.max_ms];
                row.extend(values.map(|value| Cell::from(format!("{value:.2}"))));
            }
            None => row.extend((0..7).map(|_| Cell::from("–"))),
        }
        row
    };
    let mut rows = vec![row("all".into(), report.latency.as_ref())];
    if report.by_protocol.len() > 1 {
        rows.extend(
            report.by_protocol.iter().map(|(name, part)| row(name.to_string(), part.latency.as_ref())),
        );
    }
    if report.send_lag.is_some() {
        rows.push(row("send lag".into(), report.send_lag.as_ref()));
    }
    page.table(&["milliseconds", "mean", "p50", "p90", "p95", "p99", "p99.9", "max"], &rows);
    if report.closed_loop {
        page.note(
            "Closed loop: latency counts from the actual send. A client that waits does not send, so that a stall \
             costs one slow answer per client here and many more among independent users.",
        );
    }
}

fn fates(page: &mut Page, report: &Report) {
    page.heading("What became of the requests");
    let share = |count: u64| format!("{:.3} %", 100.0 * count as f64 / report.requests.max(1) as f64);
    let counts = &report.counts;
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    let mut row = |name: String, count: u64, tone: Tone| {
        rows.push(vec![name.into(), Cell::toned(count.to_string(), tone), share(count).into()]);
    };
    row("answered correctly".into(), counts.answered, Tone::Plain);
    row("rejected (429, RESOURCE_EXHAUSTED)".into(), counts.rejected, Tone::Plain);
    for (status, count) in &report.failures {
        row(format!("failed with {status}"), *count, Tone::Bad);
    }
    for (kind, count) in &report.lost_kinds {
        row(format!("lost: {}", kind.replace('_', " ")), *count, Tone::Bad);
    }
    page.table(&["fate", "requests", "share"], &rows);
    for example in &report.wrong_examples {
        page.note(&format!("Wrong answer: {example}"));
    }
}

fn thresholds(page: &mut Page, report: &Report) {
    if report.thresholds.is_empty() {
        return;
    }
    page.heading("Thresholds");
    let rows = report.thresholds.iter().map(|judged| {
        let value = judged.value.map_or_else(|| "no value".to_owned(), |value| format!("{value:.4}"));
        let verdict = Cell::toned(if judged.passed { "held" } else { "violated" }, Tone::of(judged.passed));
        vec![Cell::from(judged.threshold.clone()), value.into(), verdict]
    });
    page.table(&["threshold", "value", ""], &rows.collect::<Vec<_>>());
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}
