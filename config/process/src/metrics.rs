//! The process's metrics, in Prometheus' text format.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Histograms hold every observation until this runs; often enough that memory stays small.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Renders what the process has measured.
#[derive(Clone)]
pub struct Metrics {
    recorded: PrometheusHandle,
    /// Labels, as they are rendered, of the series that are left out.
    left_out: Arc<Mutex<HashSet<String>>>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Installs the process-wide recorder. `buckets` gives each histogram's upper bounds; without them it
/// would be a summary, which cannot be added up over replicas.
///
/// Must be called inside a tokio runtime, once.
///
/// # Errors
/// When a recorder is installed already, or a histogram has no bounds.
pub fn install(buckets: &[(&str, &[f64])]) -> Result<Metrics, String> {
    let mut builder = PrometheusBuilder::new();
    for (name, bounds) in buckets {
        builder = builder
            .set_buckets_for_metric(Matcher::Full((*name).to_owned()), bounds)
            .map_err(|error| format!("buckets of {name}: {error}"))?;
    }
    let handle = builder.install_recorder().map_err(|error| error.to_string())?;
    let upkeep = handle.clone();
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
        loop {
            interval.tick().await;
            upkeep.run_upkeep();
        }
    });
    Ok(Metrics { recorded: handle, left_out: Arc::default() })
}

impl Metrics {
    /// All metrics in Prometheus' text format, version 0.0.4.
    pub fn render(&self) -> String {
        let rendered = self.recorded.render();
        let left_out = self.left_out.lock().unwrap_or_else(PoisonError::into_inner);
        without(rendered, &left_out)
    }

    /// Leaves the series with this label out from now on: what they tell of does not exist any more. The recorder has no
    /// way to forget them; with [`Metrics::take_in`] they go on where they ended.
    pub fn leave_out(&self, label: &str, value: &str) {
        self.left_out.lock().unwrap_or_else(PoisonError::into_inner).insert(rendered_label(label, value));
    }

    /// Shows the series with this label again.
    pub fn take_in(&self, label: &str, value: &str) {
        let mut left_out = self.left_out.lock().unwrap_or_else(PoisonError::into_inner);
        if !left_out.is_empty() {
            left_out.remove(&rendered_label(label, value));
        }
    }
}

fn rendered_label(label: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{label}=\"{value}\"")
}

/// The lines without those of series with one of these labels.
fn without(rendered: String, labels: &HashSet<String>) -> String {
    if labels.is_empty() {
        return rendered;
    }
    let is_left_out = |line: &str| !line.starts_with('#') && pairs(line).any(|pair| labels.contains(pair));
    rendered.split_inclusive('\n').filter(|line| !is_left_out(line)).collect()
}

/// The labels of a line, each with its value: `name="value"`.
fn pairs(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = line.split_once('{').map_or("", |(_, rest)| rest);
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(',');
        let value = rest.find("=\"")? + 2;
        let mut is_escaped = false;
        let end = rest[value..].find(|character| {
            let ends = character == '"' && !is_escaped;
            is_escaped = character == '\\' && !is_escaped;
            ends
        })?;
        let (pair, after) = rest.split_at(value + end + 1);
        rest = after;
        Some(pair)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_with_a_label_are_left_out_and_no_others() {
        let rendered = concat!(
            "# TYPE rows counter\n",
            "rows{model=\"a\"} 1\nrows{model=\"a\\\"b\"} 2\nrows{form=\"json\",model=\"a\"} 3\n",
            "rows{model=\"aa\"} 4\nrows{other_model=\"a\"} 5\n"
        );
        let left = |value| {
            let labels = HashSet::from([rendered_label("model", value)]);
            without(rendered.to_owned(), &labels)
                .lines()
                .filter_map(|line| line.split(' ').nth(1)?.parse().ok())
                .collect::<Vec<u32>>()
        };
        assert_eq!(left("a"), [2, 4, 5]);
        assert_eq!(left("a\"b"), [1, 3, 4, 5]);
        assert_eq!(left("b"), [1, 2, 3, 4, 5]);
    }
}
