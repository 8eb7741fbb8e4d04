//! Strict reader of Prometheus' text format 0.0.4, line by line: a line that is not valid is an error, because half of
//! a page would look like low demand. The time to read a line grows only linearly with its length.

use std::borrow::Cow;

/// Maximum number of labels of one series.
const MOST_LABELS: usize = 32;

/// Name, labels and value of a series.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Series<'a> {
    /// Name, such as `sluice_batcher_queue_rows`.
    pub name: &'a str,
    /// Labels in the line's order.
    pub labels: Labels<'a>,
    /// Value; NaN and the infinities are values.
    pub value: f64,
}

/// Names and values of labels.
pub(super) type Labels<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// Content of one line.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Line<'a> {
    /// A series and its value.
    Series(Series<'a>),
    /// The type of a metric.
    Type {
        /// The metric.
        name: &'a str,
        /// `counter`, `gauge`, `histogram`, ….
        kind: &'a str,
    },
    /// The line is blank or a comment.
    Nothing,
}

/// Reads one line.
///
/// # Errors
/// Returns what was expected instead.
pub(super) fn line(text: &str) -> Result<Line<'_>, &'static str> {
    let text = text.trim();
    if let Some(comment) = text.strip_prefix('#') {
        let mut words = comment.split_ascii_whitespace();
        return Ok(match (words.next(), words.next(), words.next()) {
            (Some("TYPE"), Some(name), Some(kind)) => Line::Type { name, kind },
            _ => Line::Nothing,
        });
    }
    if text.is_empty() { Ok(Line::Nothing) } else { series(text).map(Line::Series) }
}

fn series(line: &str) -> Result<Series<'_>, &'static str> {
    let name_end =
        line.find(|c: char| c == '{' || c.is_ascii_whitespace()).ok_or("a value after the name")?;
    let (name, rest) = line.split_at(name_end);
    if !is_name(name, ":") {
        return Err("a metric name of letters, digits, '_' and ':'");
    }
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    let mut fields = rest.split_ascii_whitespace();
    let value = fields.next().and_then(|value| value.parse().ok()).ok_or("a number as value")?;
    if fields.next().is_some_and(|timestamp| timestamp.parse::<i64>().is_err()) || fields.next().is_some() {
        return Err("nothing but a timestamp in milliseconds after the value");
    }
    Ok(Series { name, labels, value })
}

/// Returns the labels before the closing brace, and the text after it.
fn labels(mut rest: &str) -> Result<(Labels<'_>, &str), &'static str> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((labels, after));
        }
        let (name, after) = rest.split_once('=').ok_or("label=\"value\" or '}'")?;
        let name = name.trim_end();
        if !is_name(name, "") {
            return Err("a label name of letters, digits and '_'");
        }
        let after = after.trim_start().strip_prefix('"').ok_or("a label value in double quotes")?;
        let (value, after) = quoted(after)?;
        if labels.len() == MOST_LABELS {
            return Err("at most 32 labels");
        }
        labels.push((name, value));
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.starts_with('}') => {}
            None => return Err("',' or '}' after a label"),
        }
    }
}

/// Returns the label value before its closing quote, and the text after it.
fn quoted(rest: &str) -> Result<(Cow<'_, str>, &str), &'static str> {
    let mut escaped = String::new();
    // Text before this index was copied to `escaped`, because it had an escape.
    let mut copied = 0;
    let mut characters = rest.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' if copied == 0 => return Ok((Cow::Borrowed(&rest[..at]), &rest[at + 1..])),
            '"' => {
                escaped.push_str(&rest[copied..at]);
                return Ok((Cow::Owned(escaped), &rest[at + 1..]));
            }
            '\\' => {
                escaped.push_str(&rest[copied..at]);
                escaped.push(match characters.next() {
                    Some((_, 'n')) => '\n',
                    Some((_, one @ ('\\' | '"'))) => one,
                    _ => return Err("\\\\, \\\" or \\n after a backslash"),
                });
                copied = at + 2;
            }
            _ => {}
        }
    }
    Err("a closing quote")
}

fn is_name(name: &str, also: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || also.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Series<'_> {
        match line(text) {
            Ok(Line::Series(series)) => series,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn label<'a>(series: &'a Series<'_>, name: &str) -> Option<&'a str> {
        series.labels.iter().find(|(label, _)| *label == name).map(|(_, value)| value.as_ref())
    }

    #[test]
    fn labels_values_and_timestamps_are_read() {
        let series =
            one("a:b_total{model=\"bert, \\\"large\\\" }\",form=\"x\\\\y\\n\",} 1.5e3 1700000000000");
        assert_eq!(series.name, "a:b_total");
        assert_eq!(label(&series, "model"), Some("bert, \"large\" }"));
        assert_eq!(label(&series, "form"), Some("x\\y\n"));
        assert_eq!(label(&series, "other"), None);
        assert_eq!(series.value.to_bits(), 1500_f64.to_bits());
    }

    #[test]
    fn values_that_are_not_finite_are_values() {
        assert!(one("a NaN").value.is_nan());
        assert!(one("a{} +Inf").value == f64::INFINITY);
        assert!(one("a -Inf").value == f64::NEG_INFINITY);
    }

    #[test]
    fn types_are_read_and_comments_and_blank_lines_say_nothing() {
        assert_eq!(line("# TYPE a counter"), Ok(Line::Type { name: "a", kind: "counter" }));
        for nothing in ["# HELP a b", "#", "", "  ", "# TYPE a"] {
            assert_eq!(line(nothing), Ok(Line::Nothing), "{nothing}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for broken in [
            "a",
            "a x",
            "a 1 x",
            "a 1 2 3",
            "1a 1",
            "a{b} 1",
            "a{b=c} 1",
            "a{b=\"c} 1",
            "a{b=\"c\" d=\"e\"} 1",
            "a{b=\"\\q\"} 1",
            "<html>",
        ] {
            assert!(line(broken).is_err(), "{broken}");
        }
        assert!(line(&format!("a{{{}}} 1", "b=\"c\",".repeat(33))).is_err());
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(256))]

        #[test]
        fn any_text_is_read_or_refused(text in "[a-z{}=\",\\\\ 0-9#é]{0,60}") {
            let _ = line(&text);
        }

        #[test]
        fn what_is_written_is_read_back(
            name in "[a-zA-Z_:][a-zA-Z0-9_:]{0,10}",
            labels in proptest::collection::vec(("[a-zA-Z_][a-zA-Z0-9_]{0,6}", "\\PC{0,12}"), 0..4),
            value: f64,
        ) {
            let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let written: Vec<String> =
                labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
            let text = format!("{name}{{{}}} {value}", written.join(","));
            let read = one(&text);
            proptest::prop_assert_eq!(read.name, &name);
            let found: Vec<(String, String)> =
                read.labels.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect();
            proptest::prop_assert_eq!(found, labels);
            proptest::prop_assert!(read.value == value || (read.value.is_nan() && value.is_nan()));
        }
    }
}
