//! Charts over time as inline SVG inside a `<figure>`: lines, areas and steps with axes, units, legend,
//! limits and marks. Colours come from the page's style sheet (`super::page`), so that a chart is readable
//! on light and dark ground; hovering a point shows its values without any script.

mod scale;
mod series;

use std::fmt::Write;

use super::page::escape;
use scale::Scale;
pub(crate) use series::{Color, Series, Style};

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;

/// A horizontal line with a name, such as an objective.
#[derive(Debug, Clone)]
pub(crate) struct Limit {
    /// Position on the vertical axis.
    pub y: f64,
    pub name: String,
}

/// A vertical line with a name, such as an event.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    /// Position on the horizontal axis.
    pub x: f64,
    pub name: String,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Chart {
    pub title: String,
    /// Label of the horizontal axis, with its unit.
    pub x_label: String,
    /// Label of the vertical axis, with its unit.
    pub y_label: String,
    /// Lines, drawn in this order.
    pub series: Vec<Series>,
    pub limits: Vec<Limit>,
    pub marks: Vec<Mark>,
    /// Range of the horizontal axis; `None`: the range of the points.
    pub x_range: Option<(f64, f64)>,
    /// Top of the vertical axis; higher peaks are cut off. `None`: the highest point.
    pub y_top: Option<f64>,
}

impl Chart {
    /// Renders the chart as a `<figure>` with caption, legend and SVG.
    pub(crate) fn figure(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_figure(&mut out);
        out
    }

    fn write_figure(&self, out: &mut String) -> std::fmt::Result {
        let (x, y) = self.scales();
        write!(out, "<figure class=\"chart\"><figcaption><b>{}</b>", escape(&self.title))?;
        for series in &self.series {
            let (class, name) = (series.color.class(), escape(&series.name));
            write!(out, "<span class=\"key {class}\">{name}</span>")?;
        }
        for limit in &self.limits {
            write!(out, "<span class=\"key limit\">{}</span>", escape(&limit.name))?;
        }
        let title = escape(&self.title);
        write!(
            out,
            "</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">"
        )?;
        self.write_axes(out, &x, &y)?;
        for series in &self.series {
            series.write(out, &x, &y)?;
        }
        for limit in &self.limits {
            let at = y.at(limit.y);
            let right = WIDTH - RIGHT;
            write!(out, "<path class=\"limit\" d=\"M{LEFT} {at:.1}H{right}\"/>")?;
        }
        for mark in &self.marks {
            let (at, bottom, name) = (x.at(mark.x), HEIGHT - BOTTOM, escape(&mark.name));
            write!(
                out,
                "<g class=\"mark\"><path d=\"M{at:.1} {TOP}V{bottom}\"/><text x=\"{:.1}\" y=\"{:.1}\">{name}</text>\
                 <title>{name}</title></g>",
                at + 3.0,
                TOP + 9.0
            )?;
        }
        self.write_tips(out, &x)?;
        write!(out, "</svg></figure>")
    }

    fn scales(&self) -> (Scale, Scale) {
        let xs = || self.series.iter().flat_map(|series| series.points.iter().map(|(x, _)| *x));
        let (low, high) = self
            .x_range
            .unwrap_or_else(|| (xs().fold(f64::INFINITY, f64::min).min(0.0), xs().fold(0.0, f64::max)));
        let ys = self.series.iter().flat_map(|series| series.points.iter().filter_map(|(_, y)| *y));
        let highest = ys.chain(self.limits.iter().map(|limit| limit.y)).fold(0.0, f64::max);
        let x = Scale::new(low, high, LEFT, WIDTH - RIGHT, 10);
        let y = Scale::with_whole_steps(0.0, self.y_top.unwrap_or(highest), HEIGHT - BOTTOM, TOP, 5);
        (x, y)
    }

    fn write_axes(&self, out: &mut String, x: &Scale, y: &Scale) -> std::fmt::Result {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for (value, label) in y.ticks() {
            let at = y.at(value);
            write!(out, "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/>")?;
            write!(
                out,
                "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                LEFT - 7.0,
                at + 3.5
            )?;
        }
        for (value, label) in x.ticks() {
            let at = x.at(value);
            write!(out, "<path class=\"axis\" d=\"M{at:.1} {bottom}v4\"/>")?;
            write!(
                out,
                "<text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
                bottom + 16.0
            )?;
        }
        write!(out, "<path class=\"axis\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>")?;
        write!(
            out,
            "<text class=\"label\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            (LEFT + right) / 2.0,
            HEIGHT - 6.0,
            escape(&self.x_label)
        )?;
        let middle = (TOP + bottom) / 2.0;
        write!(
            out,
            "<text class=\"label\" transform=\"translate(14 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            escape(&self.y_label)
        )
    }

    /// Writes one invisible strip per point of the longest series; its title is the tooltip that browsers show.
    fn write_tips(&self, out: &mut String, x: &Scale) -> std::fmt::Result {
        let Some(longest) = self.series.iter().max_by_key(|series| series.points.len()) else {
            return Ok(());
        };
        let points = longest.thinned();
        let height = HEIGHT - BOTTOM - TOP;
        for (index, (at, _)) in points.iter().enumerate() {
            let edge =
                |other: Option<&(f64, _)>| other.map_or(x.at(*at), |(other, _)| x.at((at + other) / 2.0));
            let left = edge(index.checked_sub(1).and_then(|before| points.get(before)));
            let width = (edge(points.get(index + 1)) - left).max(1.0);
            let mut tip = format!("{} {}", short(*at), self.x_label);
            for series in &self.series {
                if let Some(value) = series.value_at(*at) {
                    write!(tip, "\n{}: {}", series.name, short(value))?;
                }
            }
            write!(
                out,
                "<rect class=\"tip\" x=\"{left:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height}\"><title>{}</title></rect>",
                escape(&tip)
            )?;
        }
        Ok(())
    }
}

/// Formats a number for a tooltip.
fn short(value: f64) -> String {
    if value == value.trunc() { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, Option<f64>)>) -> Chart {
        Chart {
            title: "Latency <all>".into(),
            x_label: "seconds".into(),
            y_label: "milliseconds".into(),
            series: vec![Series::new("p99", Color::Orange, Style::Line, points)],
            limits: vec![Limit { y: 200.0, name: "objective".into() }],
            ..Chart::default()
        }
    }

    #[test]
    fn names_units_and_limits_are_there_and_escaped() {
        let figure = chart(vec![(1.0, Some(10.0)), (2.0, Some(20.0))]).figure();
        for part in ["Latency &lt;all&gt;", "seconds", "milliseconds", "p99", "objective"] {
            assert!(figure.contains(part), "{part} in {figure}");
        }
        assert!(!figure.contains("NaN") && !figure.contains("inf"));
    }

    #[test]
    fn a_missing_value_breaks_the_line() {
        let points =
            vec![(1.0, Some(1.0)), (2.0, Some(2.0)), (3.0, None), (4.0, Some(1.0)), (5.0, Some(1.0))];
        let figure = chart(points).figure();
        let line = figure.split("class=\"line orange\" d=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(line.matches('M').count(), 2, "{line}");
    }

    #[test]
    fn thinning_keeps_the_peak() {
        let points = (0..10_000).map(|i| (f64::from(i), Some(if i == 5003 { 999.0 } else { 1.0 }))).collect();
        let series = &chart(points).series[0];
        let thinned = series.thinned();
        assert!(thinned.len() <= 600);
        assert!(thinned.contains(&(5003.0, Some(999.0))));
    }

    #[test]
    fn nothing_to_draw_is_still_a_chart() {
        let figure = Chart::default().figure();
        assert!(figure.contains("<svg") && !figure.contains("NaN") && !figure.contains("inf"), "{figure}");
    }
}
