//! Prometheus' text format 0.0.4, strictly: what is not understood is an error with its line, because half
//! of a page would look like low demand.

/// One line of a page: a name, its labels and a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Name, e.g. `sluice_batcher_queue_rows`.
    pub name: String,
    /// Labels in the page's order.
    pub labels: Vec<(String, String)>,
    /// Value; NaN and the infinities are values.
    pub value: f64,
}

impl Metric {
    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str())
    }
}

/// Why a page was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is not in Prometheus' text format: {what}")]
pub struct ParseError {
    /// From 1.
    pub line: usize,
    /// What was expected.
    pub what: &'static str,
}

/// All metrics of a page, in its order.
///
/// # Errors
/// At the first line that is neither blank, a comment, nor a metric.
pub fn parse(text: &str) -> Result<Vec<Metric>, ParseError> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(line, content)| metric(content).map_err(|what| ParseError { line, what }))
        .collect()
}

fn metric(line: &str) -> Result<Metric, &'static str> {
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
    Ok(Metric { name: name.to_owned(), labels, value })
}

type Labels = Vec<(String, String)>;

/// Labels up to and without the closing brace, and what follows it.
fn labels(mut rest: &str) -> Result<(Labels, &str), &'static str> {
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
        labels.push((name.to_owned(), value));
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.starts_with('}') => {}
            None => return Err("',' or '}' after a label"),
        }
    }
}

/// A label value up to and without its closing quote, and what follows it.
fn quoted(rest: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut characters = rest.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &rest[at + 1..])),
            '\\' => match characters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped @ ('\\' | '"'))) => value.push(escaped),
                _ => return Err("\\\\, \\\" or \\n after a backslash"),
            },
            character => value.push(character),
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

    fn one(line: &str) -> Metric {
        parse(line).unwrap().remove(0)
    }

    #[test]
    fn labels_values_and_timestamps_are_read() {
        let metric =
            one("a:b_total{model=\"bert, \\\"large\\\" }\",form=\"x\\\\y\\n\",} 1.5e3 1700000000000");
        assert_eq!(metric.name, "a:b_total");
        assert_eq!(metric.label("model"), Some("bert, \"large\" }"));
        assert_eq!(metric.label("form"), Some("x\\y\n"));
        assert_eq!(metric.label("other"), None);
        assert_eq!(metric.value.to_bits(), 1500_f64.to_bits());
    }

    #[test]
    fn values_that_are_not_finite_are_values() {
        assert!(one("a NaN").value.is_nan());
        assert!(one("a{} +Inf").value == f64::INFINITY);
        assert!(one("a -Inf").value == f64::NEG_INFINITY);
    }

    #[test]
    fn comments_and_blank_lines_are_skipped() {
        assert_eq!(parse("# HELP a b\n# TYPE a counter\n\n  \na 1\n").unwrap().len(), 1);
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_line() {
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
            let error = parse(&format!("ok 1\n{broken}\n")).unwrap_err();
            assert_eq!(error.line, 2, "{broken}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(256))]

        #[test]
        fn any_text_is_read_or_refused(text in "[a-z{}=\",\\\\ 0-9\n#é]{0,60}") {
            let _ = parse(&text);
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
            let read = one(&format!("{name}{{{}}} {value}", written.join(",")));
            proptest::prop_assert_eq!(&read.name, &name);
            proptest::prop_assert_eq!(&read.labels, &labels);
            proptest::prop_assert!(read.value == value || (read.value.is_nan() && value.is_nan()));
        }
    }
}
