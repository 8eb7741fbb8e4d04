//! Reads a batcher's metrics page while it arrives, once, with a limit on everything that a stranger could make large.
//!
//! Keeps only what the reading needs and the line that has not ended yet.

use super::collector::{Collector, ReadingError, kind_of};
use super::prometheus_text::{self, Line, Series};
use sluice_scaling_policy::signals::Reading;

/// Maximum bytes of a page.
pub(super) const MOST_BYTES: usize = 4 << 20;
/// Maximum lines of a page.
pub(super) const MOST_LINES: usize = 65_536;
/// Maximum bytes of a line.
pub(super) const MOST_LINE_BYTES: usize = 16 << 10;

/// Reason why a page was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PageError {
    /// It exceeds a limit.
    #[error(
        "the page has more than {cap} {of} (the cap), as no batcher's has; is that port another program's?"
    )]
    TooLarge {
        /// What it has too much of.
        of: &'static str,
        /// The limit.
        cap: usize,
    },
    /// It is not Prometheus' text format.
    #[error("line {line} is not in Prometheus' text format: {what}; is that port another program's?")]
    Text {
        /// Line number, from 1.
        line: usize,
        /// Expected text.
        what: &'static str,
    },
    /// A metric has another type than a batcher gives it.
    #[error("line {line}: {metric} has another type than {expected}; is that port another program's?")]
    Type {
        /// Line number, from 1.
        line: usize,
        /// Name of the metric.
        metric: &'static str,
        /// Type that a batcher gives it.
        expected: &'static str,
    },
    /// Its series cannot be used.
    #[error("line {line}: {error}; is that port another program's, or is its batcher of another version?")]
    Series {
        /// Line number, from 1.
        line: usize,
        error: ReadingError,
    },
}

/// Reader of a page that arrives in pieces.
#[derive(Debug)]
pub(super) struct PageReader {
    series: Collector,
    /// Beginning of a line whose end has not arrived.
    begun: Vec<u8>,
    bytes: usize,
    lines: usize,
    /// Cost so far: bytes that were searched for the end of a line, plus the bytes of parsed lines.
    steps: usize,
}

impl PageReader {
    /// Creates a reader of the series of `model`.
    pub(super) fn new(model: &str) -> Self {
        Self { series: Collector::new(model), begun: Vec::new(), bytes: 0, lines: 0, steps: 0 }
    }

    /// Reads the next piece.
    ///
    /// # Errors
    /// Fails at the first line that is refused; the rest is not read.
    pub(super) fn feed(&mut self, arrived: &[u8]) -> Result<(), PageError> {
        self.bytes = self.bytes.saturating_add(arrived.len());
        if self.bytes > MOST_BYTES {
            return Err(PageError::TooLarge { of: "bytes", cap: MOST_BYTES });
        }
        for piece in arrived.split_inclusive(|byte| *byte == b'\n') {
            self.steps += piece.len();
            if self.begun.len() + piece.len() > MOST_LINE_BYTES {
                return Err(PageError::TooLarge { of: "bytes in one line", cap: MOST_LINE_BYTES });
            }
            if !piece.ends_with(b"\n") {
                self.begun.extend_from_slice(piece);
            } else if self.begun.is_empty() {
                self.line(piece)?;
            } else {
                let mut whole = std::mem::take(&mut self.begun);
                whole.extend_from_slice(piece);
                self.line(&whole)?;
                whole.clear();
                self.begun = whole;
            }
        }
        Ok(())
    }

    /// Returns the reading of the whole page.
    ///
    /// # Errors
    /// Fails where the page ends within a line, because it is then incomplete.
    pub(super) fn finish(self) -> Result<Reading, PageError> {
        if !self.begun.is_empty() {
            return Err(PageError::Text { line: self.lines + 1, what: "an end of the line" });
        }
        Ok(self.series.finish())
    }

    /// Returns the cost so far, in bytes.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests bound it"))]
    pub(super) fn steps(&self) -> usize {
        self.steps
    }

    fn line(&mut self, bytes: &[u8]) -> Result<(), PageError> {
        self.lines += 1;
        self.steps += bytes.len();
        let line = self.lines;
        if line > MOST_LINES {
            return Err(PageError::TooLarge { of: "lines", cap: MOST_LINES });
        }
        let text = String::from_utf8_lossy(bytes);
        match prometheus_text::line(&text).map_err(|what| PageError::Text { line, what })? {
            Line::Nothing => Ok(()),
            Line::Type { name, kind } => match kind_of(name) {
                Some((metric, expected)) if ![expected, "untyped", "unknown"].contains(&kind) => {
                    Err(PageError::Type { line, metric, expected })
                }
                _ => Ok(()),
            },
            Line::Series(Series { name, labels, value }) => {
                let labels = labels.iter().map(|(name, value)| (*name, value.as_ref()));
                let taken = self.series.add(name, labels, value);
                taken.map(drop).map_err(|error| PageError::Series { line, error })
            }
        }
    }
}

/// Reads a whole page.
#[cfg(test)]
pub(crate) fn read(page: &str, model: &str) -> Result<Reading, PageError> {
    let mut reader = PageReader::new(model);
    reader.feed(page.as_bytes())?;
    reader.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns a histogram of `count` buckets.
    fn buckets(count: usize, labels: impl Fn(usize) -> String) -> String {
        (0..count)
            .map(|at| {
                let labels = labels(at);
                format!("sluice_batcher_request_duration_seconds_bucket{{model=\"bert\",{labels}}} 1\n")
            })
            .collect()
    }

    #[test]
    fn a_page_of_many_buckets_is_refused_at_the_cap_and_costs_no_more_than_twice_its_bytes() {
        let page = buckets(59_229, |at| format!("le=\"{at}\""));
        let mut reader = PageReader::new("bert");
        let mut slices = page.as_bytes().chunks(32 << 10);
        let error = slices.find_map(|slice| reader.feed(slice).err()).unwrap();
        assert_eq!(error, PageError::Series { line: 257, error: ReadingError::Buckets });
        assert!(error.to_string().contains("256 buckets (the cap)"), "{error}");
        assert!(reader.steps() < 256 << 10, "{} steps", reader.steps());
        // Series of another model, as many as fit on a page, are each read once.
        let page = &page[..MOST_BYTES];
        let mut reader = PageReader::new("other");
        reader.feed(page.as_bytes()).unwrap();
        assert!(reader.steps() <= 2 * page.len(), "{} steps for {} bytes", reader.steps(), page.len());
    }

    #[test]
    fn whatever_is_too_large_is_refused_with_the_cap() {
        let refused = |page: &str| read(page, "bert").unwrap_err().to_string();
        let series = buckets(4097, |at| format!("form=\"{}\",le=\"{}\"", at / 200, at % 200));
        assert!(refused(&series).contains("more than 4096 series"), "{}", refused(&series));
        assert!(refused(&"a 1\n".repeat(65_537)).contains("more than 65536 lines (the cap)"));
        assert!(
            refused(&format!("a{{b=\"{}\"}} 1\n", "x".repeat(20_000))).contains("16384 bytes in one line")
        );
        let line = format!("a{{b=\"{}\"}} 1\n", "x".repeat(1000));
        assert!(refused(&line.repeat(4200)).contains("more than 4194304 bytes (the cap)"));
    }

    #[test]
    fn what_nobody_can_make_sense_of_is_refused_with_its_line() {
        let demand = "sluice_batcher_demand_rows_total{model=\"bert\"}";
        for (page, line, says) in [
            (format!("{demand} 1\n<html>\n"), "line 2", "text format"),
            (format!("{demand} 1\n{demand} 2\n"), "line 2", "twice with the same labels"),
            (
                "sluice_batcher_queue_rows{a=\"1\",model=\"bert\"} 1\n\
              sluice_batcher_queue_rows{model=\"bert\",a=\"1\"} 1\n"
                    .to_owned(),
                "line 2",
                "twice",
            ),
            ("sluice_batcher_queue_rows{model=\"bert\",model=\"x\"} 1\n".to_owned(), "line 1", "twice"),
            (
                "# TYPE sluice_batcher_demand_rows_total gauge\n".to_owned(),
                "line 1",
                "another type than counter",
            ),
            (buckets(1, |_| "le=\"NaN\"".to_owned()), "line 1", "le that is a number"),
            (buckets(1, |_| "x=\"1\"".to_owned()), "line 1", "le that is a number"),
            (format!("{demand} 1"), "line 1", "an end of the line"),
        ] {
            let error = read(&page, "bert").unwrap_err().to_string();
            assert!(error.contains(line) && error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_page_of_another_program_says_nothing() {
        let page = "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total 12\n\
                    go_gc{model=\"bert\"} NaN\n";
        assert_eq!(read(page, "bert"), Ok(Reading::default()));
    }

    #[test]
    fn a_label_may_hold_what_ends_a_line_or_a_value() {
        let page = "sluice_batcher_queue_rows{model=\"a\\n\\\"b\\\\\"} 3\n";
        assert_eq!(read(page, "a\n\"b\\").unwrap().queue_rows, Some(3.0));
    }

    /// Generates lines of a batcher, of other programs, and nonsense.
    fn any_line() -> impl Strategy<Value = String> {
        let names = proptest::sample::select(vec![
            "sluice_batcher_demand_rows_total",
            "sluice_batcher_queue_rows",
            "sluice_batcher_request_duration_seconds_bucket",
            "sluice_batcher_curve_alpha_seconds",
            "up",
            "# TYPE up",
            "#",
            "\u{1b}[2J",
        ]);
        let numbers = proptest::sample::select(vec!["0", "-1", "NaN", "+Inf", "1e308", "7", "x", ""]);
        (names, "[a-z\\\\\"=,{} é\u{7}]{0,12}", numbers.clone(), numbers).prop_map(
            |(name, label, le, value)| {
                format!("{name}{{model=\"bert\",a=\"{label}\",le=\"{le}\"}} {value}\n")
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn however_a_page_is_cut_it_is_read_alike_in_linear_time_and_to_possible_numbers(
            lines in proptest::collection::vec(any_line(), 0..20),
            cut in 1_usize..50,
        ) {
            let page = lines.concat();
            let mut reader = PageReader::new("bert");
            let fed = page.as_bytes().chunks(cut).try_for_each(|piece| reader.feed(piece));
            prop_assert!(reader.steps() <= 2 * page.len());
            let in_pieces = fed.and_then(|()| reader.finish());
            let whole = read(&page, "bert");
            prop_assert_eq!(format!("{in_pieces:?}"), format!("{whole:?}"));
            if let Ok(reading) = whole {
                prop_assert!(reading.demand_rows.is_none_or(|rows| rows.is_nan() || (0.0..1e16).contains(&rows)));
                prop_assert!(reading.queue_rows.is_none_or(|rows| (0.0..1e16).contains(&rows)));
                prop_assert!(reading.latency.quantile(0.99).is_none_or(f64::is_finite));
            }
        }
    }
}
