//! `/metrics` as OpenMetrics: checked line by line against the format's rules, and by promtool where there is one.

use std::collections::{HashMap, HashSet};

use crate::client::{get, infer_json, request, send};
use crate::model::{Behaviour, Model};
use crate::start::{settings, sidecar};

/// The rules of OpenMetrics 1.0 that concern what we write.
fn check(text: &str) -> HashMap<String, String> {
    assert!(text.ends_with("# EOF\n"), "the end is marked");
    let mut types: HashMap<String, String> = HashMap::new();
    let mut closed: HashSet<String> = HashSet::new();
    let mut current = String::new();
    let mut seen = HashSet::new();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.iter().filter(|line| **line == "# EOF").count(), 1);
    for line in &lines[..lines.len() - 1] {
        assert!(!line.is_empty(), "no empty lines");
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (what, family, value) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            if family != current {
                assert!(closed.insert(current.clone()) || current.is_empty(), "{current} comes in one piece");
                current = family.to_owned();
            }
            match what {
                "TYPE" => {
                    assert!(["counter", "gauge", "histogram", "unknown"].contains(&value), "{line}");
                    assert!(value != "counter" || !family.ends_with("_total"), "{line}");
                    assert!(types.insert(family.to_owned(), value.to_owned()).is_none(), "{line} comes once");
                }
                "UNIT" => assert!(family.ends_with(&format!("_{value}")), "{line}"),
                "HELP" => {}
                _ => panic!("{line}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        value.parse::<f64>().unwrap_or_else(|_| panic!("{line}: the value is a number"));
        assert!(seen.insert(series.to_owned()), "{line} comes once");
        let name = series.split('{').next().unwrap();
        let suffixes: &[&str] = match types[&current].as_str() {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        let suffix = name.strip_prefix(current.as_str()).unwrap_or_else(|| panic!("{line} is of {current}"));
        assert!(suffixes.contains(&suffix), "{line}: {suffix:?} is none of {suffixes:?}");
        if suffix == "_bucket" {
            let bound = series.split("le=\"").nth(1).unwrap().split('"').next().unwrap();
            assert!(bound == "+Inf" || bound.contains('.'), "{line}: a bound is a float");
        }
        if let Some((_, labels)) = series.split_once('{') {
            assert!(labels.ends_with("\"}") && labels.contains("=\""), "{line}");
        }
    }
    types
}

#[tokio::test]
async fn the_metrics_are_valid_openmetrics_where_that_is_asked_for() {
    let name = "open-metrics";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    infer_json(batcher.front, name, &[1]).await;
    let mut asked = request("GET", "/metrics", "");
    asked
        .headers_mut()
        .insert("accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5".parse().unwrap());
    let got = send(batcher.admin, asked).await;
    assert_eq!(got.headers["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let text = got.text();
    let types = check(&text);
    assert_eq!(types["sluice_batcher_requests"], "counter");
    assert_eq!(types["sluice_batcher_request_duration_seconds"], "histogram");
    assert!(text.contains("# UNIT sluice_batcher_request_duration_seconds seconds\n"));
    let line = format!("sluice_batcher_requests_total{{model=\"{name}\",form=\"json\",outcome=\"ok\"}} 1\n");
    assert!(text.contains(&line), "{line}");
    let plain = get(batcher.admin, "/metrics").await;
    assert_eq!(plain.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert!(plain.text().contains(&line) && !plain.text().contains("# EOF"));
    promtool(&plain.text());
}

/// promtool's own verdict, where it is installed.
fn promtool(text: &str) {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let started = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = started else {
        println!("promtool is not installed: its check is left out");
        return;
    };
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let problems = String::from_utf8_lossy(&output.stderr);
    // Missing help texts are a matter of style.
    let problems: Vec<&str> = problems.lines().filter(|line| !line.contains("no help text")).collect();
    assert!(problems.is_empty(), "{problems:?}");
}
