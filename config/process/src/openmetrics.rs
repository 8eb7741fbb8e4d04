//! Prometheus' text format, version 0.0.4, as OpenMetrics 1.0 text: for scrapers that ask for it.
//!
//! What differs: a counter's family is named without `_total` (its samples keep it), a family whose name ends in a
//! unit says so, bounds of buckets are written as floating-point numbers, there are no empty lines, and the end
//! is marked, so that a cut answer is not taken for a whole one.

use std::fmt::Write;

/// Media type of the OpenMetrics text format.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Units that names of metrics end in, all of them base units.
const UNITS: [&str; 4] = ["seconds", "bytes", "rows", "ratio"];

/// Whether an `Accept` header prefers OpenMetrics to plain text. Who names neither gets plain text.
pub fn is_preferred(accept: &str) -> bool {
    let quality = |wanted: &[&str]| {
        accept
            .split(',')
            .filter_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                let media = parts.next()?;
                wanted.iter().any(|wanted| media.eq_ignore_ascii_case(wanted)).then(|| {
                    parts
                        .find_map(|part| part.strip_prefix("q=")?.parse::<f64>().ok())
                        .filter(|quality| (0.0..=1.0).contains(quality))
                        .unwrap_or(1.0)
                })
            })
            .fold(0.0, f64::max)
    };
    let open_metrics = quality(&["application/openmetrics-text"]);
    open_metrics > 0.0 && open_metrics >= quality(&["text/plain", "text/*"])
}

/// Rewrites it. What is in no family of a known type is left out: OpenMetrics has no place for it.
pub fn from_prometheus(text: &str) -> String {
    let mut open = String::with_capacity(text.len() + text.len() / 8);
    // `# HELP` may come before `# TYPE`, which decides on the name.
    let mut help: Option<(&str, &str)> = None;
    let mut known = false;
    for line in text.lines() {
        if line.is_empty() {
            continue;
        }
        if let Some((name, words)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            help = Some((name, words));
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let family = family(name, kind);
            known = true;
            let kind = if kind == "untyped" { "unknown" } else { kind };
            let _ = writeln!(open, "# TYPE {family} {kind}");
            if let Some(unit) = UNITS
                .iter()
                .find(|unit| family.strip_suffix(**unit).is_some_and(|before| before.ends_with('_')))
            {
                let _ = writeln!(open, "# UNIT {family} {unit}");
            }
            if let Some((_, words)) = help.take().filter(|(of, _)| *of == name) {
                let _ = writeln!(open, "# HELP {family} {}", words.replace('"', "\\\""));
            }
        } else if !line.starts_with('#') && known {
            sample(&mut open, line);
        }
    }
    open.push_str("# EOF\n");
    open
}

fn family<'a>(name: &'a str, kind: &str) -> &'a str {
    if kind == "counter" { name.strip_suffix("_total").unwrap_or(name) } else { name }
}

/// A sample; the bound of a bucket is made a floating-point number.
fn sample(open: &mut String, line: &str) {
    const BOUND: &str = "le=\"";
    let bound = line.find(BOUND).map(|at| at + BOUND.len());
    let rewritten = bound.and_then(|start| {
        let (bound, rest) = line.get(start..)?.split_once('"')?;
        (!bound.contains(['.', 'e', 'I'])).then(|| (line.get(..start), bound, rest))
    });
    let _ = match rewritten {
        Some((Some(before), bound, rest)) => writeln!(open, "{before}{bound}.0\"{rest}"),
        _ => writeln!(open, "{line}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_get_their_names_units_and_an_end() {
        let text = "# HELP x_total How \"many\".\n# TYPE x_total counter\nx_total{a=\"b\"} 3\n\n\
                    # TYPE wait_seconds histogram\nwait_seconds_bucket{le=\"1\"} 2\nwait_seconds_bucket{le=\"0.5\"} 1\n\
                    wait_seconds_bucket{le=\"+Inf\"} 2\nwait_seconds_sum 1.5\nwait_seconds_count 2\n\n\
                    # TYPE up gauge\nup 1\n";
        assert_eq!(
            from_prometheus(text),
            "# TYPE x counter\n# HELP x How \\\"many\\\".\nx_total{a=\"b\"} 3\n\
             # TYPE wait_seconds histogram\n# UNIT wait_seconds seconds\nwait_seconds_bucket{le=\"1.0\"} 2\n\
             wait_seconds_bucket{le=\"0.5\"} 1\nwait_seconds_bucket{le=\"+Inf\"} 2\nwait_seconds_sum 1.5\n\
             wait_seconds_count 2\n# TYPE up gauge\nup 1\n# EOF\n"
        );
    }

    #[test]
    fn who_asks_for_it_gets_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,\
                          application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        assert!(is_preferred(prometheus));
        assert!(is_preferred("application/openmetrics-text"));
        assert!(!is_preferred("text/plain;q=0.9, application/openmetrics-text;q=0.1"));
        assert!(!is_preferred("*/*"));
        assert!(!is_preferred(""));
        assert!(!is_preferred("application/openmetrics-text;q=0"));
    }
}
