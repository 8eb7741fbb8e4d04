//! One line, area or staircase of a chart.

use std::fmt::Write;

use super::scale::Scale;

/// Most points of one series that are drawn. A longer series is cut into as many equal pieces, and the peak of each is
/// drawn.
const MOST_POINTS: usize = 600;

/// Colours of the page's style sheet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // Their names say it.
pub(crate) enum Color {
    Blue,
    Orange,
    Green,
    Red,
    Purple,
    Grey,
}

impl Color {
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Blue => "blue",
            Self::Orange => "orange",
            Self::Green => "green",
            Self::Red => "red",
            Self::Purple => "purple",
            Self::Grey => "grey",
        }
    }
}

/// Way in which a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// A line from point to point.
    Line,
    /// A line, filled down to the axis.
    Area,
    /// Steps, filled down to the axis: each value holds until the next point.
    StepArea,
}

/// One line of a chart.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    /// Name in the legend.
    pub name: String,
    pub color: Color,
    pub style: Style,
    /// Points by ascending x; a missing y leaves a gap.
    pub points: Vec<(f64, Option<f64>)>,
}

impl Series {
    pub(crate) fn new(
        name: impl Into<String>,
        color: Color,
        style: Style,
        points: impl IntoIterator<Item = (f64, Option<f64>)>,
    ) -> Self {
        Self { name: name.into(), color, style, points: points.into_iter().collect() }
    }

    /// Returns at most [`MOST_POINTS`] points; of each piece the highest, because a chart must not hide peaks.
    pub(super) fn thinned(&self) -> Vec<(f64, Option<f64>)> {
        if self.points.len() <= MOST_POINTS {
            return self.points.clone();
        }
        let highest = |piece: &[(f64, Option<f64>)]| {
            piece.iter().copied().max_by(|a, b| a.1.unwrap_or(f64::MIN).total_cmp(&b.1.unwrap_or(f64::MIN)))
        };
        self.points.chunks(self.points.len().div_ceil(MOST_POINTS)).filter_map(highest).collect()
    }

    /// Returns the last value at or before `x`.
    pub(super) fn value_at(&self, x: f64) -> Option<f64> {
        let after = self.points.partition_point(|(at, _)| *at <= x);
        self.points[..after].last().and_then(|(_, y)| *y)
    }

    /// Draws the series.
    pub(super) fn write(&self, out: &mut String, x: &Scale, y: &Scale) -> std::fmt::Result {
        let steps = matches!(self.style, Style::StepArea);
        let filled = matches!(self.style, Style::Area | Style::StepArea);
        let points = self.thinned();
        let mut line = String::new();
        let mut area = String::new();
        for run in points.split(|(_, y)| y.is_none()).filter(|run| !run.is_empty()) {
            let mut path = String::new();
            for (index, (at, value)) in run.iter().enumerate() {
                let (px, py) = (x.at(*at), y.at(value.unwrap_or(0.0)));
                match (index, steps) {
                    (0, _) => write!(path, "{px:.1} {py:.1}")?,
                    (_, false) => write!(path, "L{px:.1} {py:.1}")?,
                    (_, true) => write!(path, "H{px:.1}V{py:.1}")?,
                }
            }
            // A single point would be an invisible line.
            let dot = if run.len() == 1 { "h.1" } else { "" };
            write!(line, "M{path}{dot}")?;
            if filled && let (Some((first, _)), Some((last, _))) = (run.first(), run.last()) {
                let (left, right, floor) = (x.at(*first), x.at(*last), y.at(0.0));
                write!(area, "M{left:.1} {floor:.1}L{path}L{right:.1} {floor:.1}Z")?;
            }
        }
        let class = self.color.class();
        if filled {
            write!(out, "<path class=\"area {class}\" d=\"{area}\"/>")?;
        }
        write!(out, "<path class=\"line {class}\" d=\"{line}\"/>")
    }
}
