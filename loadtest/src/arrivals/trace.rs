//! Rate tables: a trace reduced to requests per second in windows, as CSV.

use super::rate::{RateCurve, RateError, Segment};

/// Why a rate table is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TraceError {
    /// The first line that is no comment is not the header.
    #[error("line {line}: expected the header `t_s,rate_rps`, found `{found}`")]
    Header {
        /// Line number, from 1.
        line: usize,
        found: String,
    },
    /// A line that is not two numbers.
    #[error("line {line}: expected `seconds,requests per second`, found `{found}`")]
    Line {
        /// Line number, from 1.
        line: usize,
        found: String,
    },
    /// Times must grow.
    #[error("line {line}: t_s is {t_s}, but times must grow from line to line")]
    Order {
        /// Line number, from 1.
        line: usize,
        /// Its time.
        t_s: f64,
    },
    /// Fewer than two windows: the length of the last one is that of the one before.
    #[error("a rate table needs at least two lines of data")]
    TooShort,
    /// A rate that cannot be.
    #[error(transparent)]
    Rate(#[from] RateError),
}

/// Reads a table `t_s,rate_rps`: each rate holds from its time to the next line's; the last window is as
/// long as the one before. Lines that start with `#` are comments. Times are multiplied by `time_scale`
/// (0.1 replays ten times faster), rates by `rate_scale`.
///
/// # Errors
/// Names the line and what is wrong with it.
pub fn parse(text: &str, time_scale: f64, rate_scale: f64) -> Result<RateCurve, TraceError> {
    let mut lines = text.lines().map(str::trim).enumerate().map(|(index, line)| (index + 1, line));
    let mut lines = lines.by_ref().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    match lines.next() {
        Some((_, "t_s,rate_rps")) => {}
        Some((line, found)) => return Err(TraceError::Header { line, found: found.to_owned() }),
        None => return Err(TraceError::TooShort),
    }
    let mut windows: Vec<(f64, f64)> = Vec::new();
    for (line, text) in lines {
        let numbers = text.split_once(',').and_then(|(t, rate)| Some((number(t)?, number(rate)?)));
        let (t_s, rate_rps) = numbers.ok_or_else(|| TraceError::Line { line, found: text.to_owned() })?;
        if windows.last().is_some_and(|(before, _)| t_s <= *before) {
            return Err(TraceError::Order { line, t_s });
        }
        windows.push((t_s, rate_rps));
    }
    let [.., (before, _), (last, _)] = windows.as_slice() else { return Err(TraceError::TooShort) };
    let end = last + (last - before);
    let ends = windows.iter().skip(1).map(|(t_s, _)| *t_s).chain([end]);
    let segments = windows
        .iter()
        .zip(ends)
        .map(|((t_s, rate_rps), end)| Segment::flat(rate_rps * rate_scale, (end - t_s) * time_scale));
    Ok(RateCurve::new(segments.collect())?)
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "# a comment\nt_s,rate_rps\n0,10\n60,20\n180,5\n";

    #[test]
    fn each_rate_holds_until_the_next_line_and_the_last_as_long_as_the_one_before() {
        let curve = parse(TABLE, 1.0, 1.0).unwrap();
        assert_eq!(curve.duration_s(), 300.0);
        assert_eq!(curve.arrivals(), 10.0 * 60.0 + 20.0 * 120.0 + 5.0 * 120.0);
        assert_eq!([0.0, 59.0, 60.0, 299.0, 300.0].map(|t| curve.rate_at(t)), [10.0, 10.0, 20.0, 5.0, 0.0]);
    }

    #[test]
    fn time_and_rate_scale_independently() {
        let curve = parse(TABLE, 0.1, 3.0).unwrap();
        assert_eq!(curve.duration_s(), 30.0);
        assert_eq!(curve.rate_at(6.5), 60.0);
    }

    #[test]
    fn a_wrong_line_is_named_by_number() {
        let message = |text| parse(text, 1.0, 1.0).unwrap_err().to_string();
        assert!(message("time,rate\n0,1\n").contains("line 1: expected the header"));
        assert!(message("t_s,rate_rps\n0,1\n1;2\n").contains("line 3"));
        assert!(message("t_s,rate_rps\n5,1\n5,2\n").contains("line 3: t_s is 5"));
        assert!(message("t_s,rate_rps\n0,1\n").contains("two lines"));
        assert!(message("t_s,rate_rps\n0,1\n1,-2\n").contains("-2 requests/s"));
    }
}
